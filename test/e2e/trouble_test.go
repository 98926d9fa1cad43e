//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// lapse is the lease duration of the CCM, plus a little.
const lapse = 12 * time.Second

// TestTrouble lets happen to the control plane what may happen to it, and judges what
// becomes of the Services from the API server's watch history.
func TestTrouble(t *testing.T) {
	w := up(t, testbed.Options{Nodes: 2, Proxy: "nftables", Mgmt: "lan"}).witness()
	w.create("old", nil)
	address := w.address("old")
	w.requested(address)

	for _, c := range []struct {
		name string
		play func(*witness)
	}{
		{"the leader is killed in the middle of allocations", (*witness).leaderKilled},
		{"both replicas are killed", (*witness).bothKilled},
		{"the leader sleeps past its lease and wakes up", (*witness).leaderSleeps},
		{"the leader changes during a burst of 1000 creations", (*witness).leaderChangesInABurst},
		{"the Lease is deleted", (*witness).leaseDeleted},
		{"the API server is away for a while", (*witness).apiServerAway},
		{"the API server is away when the CCM starts", (*witness).apiServerAwayAtStart},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.with(t)
			w.note("%s", c.name)
			defer func() { t.Log("\n" + w.recorder.History().Timeline("default/after-away")) }()
			c.play(w)
			w.settled()
			require.Equal(t, address, w.published("old"))
			w.requested(address)
			w.note("over: %s", c.name)
		})
	}
}

// leaderKilled kills the leader by SIGKILL as soon as the first of many Services has its
// address: the others are somewhere between the allocator and the status.
func (w *witness) leaderKilled() {
	w.Helper()
	node, pid := w.leading()
	w.burst("killed-", 60)
	w.eventually(func(t *assert.CollectT) {
		require.True(t, w.published("killed-0").IsValid() || w.published("killed-1").IsValid())
	})
	w.note("SIGKILL to the leader on %s", node)
	w.signal(pid, syscall.SIGKILL)
	w.create("after-kill", nil)
	w.address("after-kill")
	w.remove("killed-", 60)
	w.delete("after-kill")
}

// bothKilled kills both replicas at once; nothing moves on the wire meanwhile.
func (w *witness) bothKilled() {
	w.Helper()
	owner := w.addressOwner(w.published("old"))
	w.leader("")
	w.burst("both-", 30)
	w.note("SIGKILL to both replicas")
	for _, pid := range w.processes() {
		w.signal(pid, syscall.SIGKILL)
	}
	w.create("while-dead", nil)
	w.delete("both-0")
	w.address("while-dead")
	require.Equal(w, owner, w.addressOwner(w.published("old")))
	w.remove("both-", 30)
	w.delete("while-dead")
}

// leaderSleeps stops the leader for longer than its lease lasts, in the middle of
// allocations; what it has decided by then and has not yet said must not be said any more
// when it goes on.
func (w *witness) leaderSleeps() {
	w.Helper()
	before := w.leader("")
	node, pid := w.leading()
	w.burst("sleep-", 40)
	w.note("SIGSTOP to the leader on %s", node)
	w.signal(pid, syscall.SIGSTOP)
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	after := w.leader(before)
	w.create("while-asleep", nil)
	w.address("while-asleep")
	w.delete("sleep-0")
	w.delete("sleep-1")
	time.Sleep(lapse / 4)
	w.note("SIGCONT to the former leader")
	w.signal(pid, syscall.SIGCONT)
	w.create("after-sleep", nil)
	w.address("after-sleep")
	require.Equal(w, after, w.leader(""), "the one that slept takes nothing back")
	w.settled()
	w.remove("sleep-", 40)
	w.delete("while-asleep")
	w.delete("after-sleep")
}

// leaderChangesInABurst stops the leader, so that it gives its lease back, when a part of
// 1000 Services exists.
func (w *witness) leaderChangesInABurst() {
	w.Helper()
	before := w.leader("")
	node := w.nodeOfReplica(before)
	w.burst("burst-a", 300)
	w.note("the leader on %s is stopped", node)
	stopped := make(chan error, 1)
	go func() { stopped <- w.c.Stop(w.Context(), "ccm:"+node) }()
	w.burst("burst-b", 700)
	require.NoError(w, <-stopped)
	w.leader(before)
	w.settledWithin(2 * patience)
	w.start("ccm:" + node)
	w.remove("burst-a", 300)
	w.remove("burst-b", 700)
}

// leaseDeleted deletes the Lease: the leader makes it again and stays the only one.
func (w *witness) leaseDeleted() {
	w.Helper()
	before := w.leader("")
	w.burst("lease-", 30)
	require.NoError(w, w.client.CoordinationV1().Leases(system).Delete(w.Context(), "baremetal-ccm", metav1.DeleteOptions{}))
	w.note("the Lease is deleted")
	w.create("after-lease", nil)
	w.address("after-lease")
	require.Equal(w, before, w.leader(""), "whoever led goes on")
	w.remove("lease-", 30)
	w.delete("after-lease")
}

// apiServerAway takes the API server away for longer than a lease lasts. A longer absence
// adds nothing but waiting: client-go asks ever more seldom, after a minute of absence only
// every half a minute to a minute. What is answered on the wire goes
// on being answered. No process ends for it, but a leader whose lease another replica took
// when the API server came back: what it remembers may be wrong by then.
func (w *witness) apiServerAway() {
	w.Helper()
	owner := w.addressOwner(w.published("old"))
	address := w.published("old")
	before, processes := w.leader(""), w.processes()
	w.burst("away-", 30)
	w.note("the API server is stopped")
	w.stop("apiserver")
	for until := time.Now().Add(2 * lapse); time.Now().Before(until); {
		require.Equal(w, []string{owner}, w.addressOwners(address))
		time.Sleep(time.Second)
	}
	w.apiServerBack()
	w.create("after-away", nil)
	w.address("after-away")
	if w.leader("") != before {
		former := w.nodeOfReplica(before)
		delete(processes, former)
		require.Subset(w, w.processes(), processes, "an API server that is away ends no process")
	} else {
		require.Equal(w, processes, w.processes(), "an API server that is away ends no process")
	}
	w.remove("away-", 30)
	w.delete("after-away")
}

// apiServerBack starts the API server again, and kube-proxy too: an API server that ends
// takes itself out of its own Service, and kube-proxy, which asks ever more seldom, would
// let nobody on its node reach it for another minute or more. That is not what is tested.
func (w *witness) apiServerBack() {
	w.Helper()
	w.start("apiserver")
	for _, node := range w.nodes() {
		require.NoError(w, w.c.Restart(w.Context(), "kube-proxy:"+node))
	}
	w.note("the API server is back")
}

// apiServerAwayAtStart starts the CCM without an API server: it waits, and serves what
// was asked for meanwhile.
func (w *witness) apiServerAwayAtStart() {
	w.Helper()
	w.stop("ccm")
	w.create("before-start", nil)
	w.stop("apiserver")
	w.note("the CCM starts without an API server")
	w.start("ccm")
	time.Sleep(lapse)
	w.apiServerBack()
	w.address("before-start")
	w.delete("before-start")
}

// remove deletes the Services that burst made and waits until they are gone.
func (w *witness) remove(prefix string, n int) {
	w.Helper()
	services := w.client.CoreV1().Services("default")
	for i := range n {
		err := services.Delete(w.Context(), fmt.Sprint(prefix, i), metav1.DeleteOptions{})
		require.True(w, err == nil || apierrors.IsNotFound(err), "%v", err)
	}
}

// TestStatusIsTheRecord shows what becomes of Services whose status, finalizer or type
// changed while nobody watched, or by hand.
func TestStatusIsTheRecord(t *testing.T) {
	w := up(t, testbed.Options{Nodes: 2, Proxy: "nftables", Mgmt: "lan"}).witness()
	for _, c := range []struct {
		name string
		play func(*witness)
	}{
		{"a status edited by hand is repaired", (*witness).statusRepaired},
		{"IP20 two Services with one address in status at start", (*witness).oneAddressTwice},
		{"IP19 garbage and strange addresses in status at start", (*witness).garbageInStatus},
		{"IP6 and IP7 sharing, and an edit that makes a clash", (*witness).sharing},
		{"IP21 requests that contradict themselves", (*witness).contradictions},
		{"L2, L3 and L9 each address goes by the endpoints of its family", (*witness).eachFamily},
		{"a finalizer removed by force", (*witness).finalizerRemoved},
		{"a finalizer removed by force while the CCM is down", (*witness).finalizerRemovedWhileDown},
		{"no load balancer any more while the CCM is down", (*witness).typeChangedWhileDown},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.with(t)
			w.note("%s", c.name)
			c.play(w)
			w.settled()
		})
	}
}

func (w *witness) statusRepaired() {
	w.Helper()
	w.create("repaired", nil)
	w.create("neighbour", nil)
	address, neighbour := w.address("repaired").String(), w.address("neighbour").String()
	for _, forged := range [][]string{nil, {neighbour}, {"192.0.2.77"}, {address, neighbour}} {
		w.writeStatus("repaired", forged...)
		w.has("repaired", address)
		w.has("neighbour", neighbour)
	}
	w.delete("repaired")
	w.delete("neighbour")
}

// oneAddressTwice: the older keeps it, the other gets a new one and an Event.
func (w *witness) oneAddressTwice() {
	w.Helper()
	w.create("older", nil)
	address := w.address("older")
	time.Sleep(1100 * time.Millisecond) // ages are counted in seconds
	w.stop("ccm")
	w.create("younger", nil)
	w.writeStatus("younger", address.String())
	w.start("ccm")
	w.eventually(func(t *assert.CollectT) {
		other := w.published("younger")
		require.True(t, other.IsValid())
		require.NotEqual(t, address, other)
	}, "two Services have %s", address)
	require.Equal(w, address, w.published("older"))
	w.told("younger", "AddressInUse", address.String()+" is taken out of the status")
	w.delete("older")
	w.delete("younger")
}

func (w *witness) garbageInStatus() {
	w.Helper()
	pool := w.c.PoolV4().Addr()
	for range 100 {
		pool = pool.Next()
	}
	w.stop("ccm")
	w.create("outside", nil)
	w.create("hostname", nil)
	w.create("two", nil)
	w.create("repeated", nil)
	twice := pool.Next().Next().String()
	w.writeStatus("repeated", twice, twice)
	w.writeStatus("outside", "192.0.2.99")
	w.writeStatus("two", pool.String(), pool.Next().String())
	svc := w.get("hostname")
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "lb.example"}}
	_, err := w.client.CoreV1().Services("default").UpdateStatus(w.Context(), svc, metav1.UpdateOptions{})
	require.NoError(w, err)
	w.start("ccm")
	w.says("outside", "baremetal.cloud/Allocated", "AddressOutsidePools")
	w.says("outside", "baremetal.cloud/Announced", "AddressOutsidePools")
	require.Equal(w, netip.MustParseAddr("192.0.2.99"), w.published("outside"))
	w.silent(netip.MustParseAddr("192.0.2.99"))
	w.has("two", pool.String())
	w.has("repeated", twice)
	w.eventually(func(t *assert.CollectT) {
		require.True(t, w.published("hostname").IsValid())
	}, "a hostname in the status stays")
	for _, name := range []string{"outside", "hostname", "two", "repeated"} {
		w.delete(name)
	}
}

// finalizerRemoved: the CCM sees the Service go without having been asked; its address
// becomes free all the same, and falls silent.
func (w *witness) finalizerRemoved() {
	w.Helper()
	w.create("forced", nil)
	address := w.address("forced")
	w.addressOwner(address)
	w.removeByForce("forced")
	w.silent(address)
	w.taken(address)
}

func (w *witness) finalizerRemovedWhileDown() {
	w.Helper()
	w.create("forced", nil)
	address := w.address("forced")
	w.addressOwner(address)
	w.stop("ccm")
	w.removeByForce("forced")
	w.start("ccm")
	w.silent(address)
	w.taken(address)
}

// typeChangedWhileDown: the API server wipes the status itself, and nobody knows the
// address any more but the node that answers for it.
func (w *witness) typeChangedWhileDown() {
	w.Helper()
	w.create("plain", nil)
	address := w.address("plain")
	w.addressOwner(address)
	w.stop("ccm")
	w.change("plain", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
	w.start("ccm")
	w.silent(address)
	w.eventually(func(t *assert.CollectT) {
		svc := w.get("plain")
		require.Empty(t, svc.Finalizers)
		require.Empty(t, svc.Status.Conditions)
	}, "the finalizer or a condition stays")
	w.taken(address)
	w.delete("plain")
}

// removeByForce deletes a Service past its finalizers, as people do who are in a hurry.
func (w *witness) removeByForce(name string) {
	w.Helper()
	services := w.client.CoreV1().Services("default")
	// First the finalizers: a CCM that runs would otherwise be faster.
	_, err := services.Patch(w.Context(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	require.NoError(w, err)
	require.NoError(w, services.Delete(w.Context(), name, metav1.DeleteOptions{}))
	w.eventually(func(t *assert.CollectT) {
		_, err := services.Get(w.Context(), name, metav1.GetOptions{})
		require.True(t, apierrors.IsNotFound(err))
	}, "Service %s is not gone", name)
}

// taken checks that another Service can have the address now.
func (w *witness) taken(address netip.Addr) {
	w.Helper()
	w.create("heir", func(svc *corev1.Service) {
		svc.Annotations = map[string]string{"baremetal.cloud/addresses": address.String()}
	})
	require.Equal(w, address, w.address("heir"))
	w.delete("heir")
}
