//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/controlplane"
)

// long reports whether faults last as long as where they were found, `make faults`, and not only
// until they show.
func long() bool { return os.Getenv("FAULTS_LONG") == "yes" }

// lasting returns how long a fault lasts: the first by `make faults`, else the second.
func lasting(full, short time.Duration) time.Duration {
	if long() {
		return full
	}
	return short
}

// TestFault_K3_1_StaleCaches takes the API server away from all replicas (K3.2) and then from
// the standby, which leads next (K3.1), and cuts the leader's node off (K3.8).
func TestFault_K3_1_StaleCaches(t *testing.T) {
	w := up(t, testbed.Options{Nodes: 3, Mgmt: "lan"}).witness()
	w.create("old", nil)
	address := w.address("old")
	w.requested(address)
	t.Run("K3.2 a new Service once the API server is back", func(t *testing.T) { w.with(t).servedAfterOutage() })
	t.Run("K3.2 the same while the leader changes", func(t *testing.T) { w.with(t).leaderChangesAtReturn() })
	t.Run("K3.1 a standby that saw nothing leads", func(t *testing.T) { w.with(t).staleStandbyLeads() })
	t.Run("K3.8 the leader's node is cut off", func(t *testing.T) { w.with(t).leadersNodeIsCut() })
	require.Equal(t, address, w.published("old"))
	w.requested(address)
}

// servedAfterOutage measures how soon a Service has its address that is created when the API
// server is back. 2 s is right, 48 s was seen; the machine may have other work.
func (w *witness) servedAfterOutage() {
	w.Helper()
	w.leader("")
	w.stop("apiserver")
	time.Sleep(lasting(75*time.Second, 40*time.Second))
	w.apiServerBack()
	took := w.servedWithin("back", 10*time.Second)
	w.Logf("a new Service had its address %v after it was created", took.Round(time.Millisecond))
}

// leaderChangesAtReturn has the leader die while the API server is away: the Lease has
// expired when it comes back, and nothing but a standby whose watches are restored may take it.
func (w *witness) leaderChangesAtReturn() {
	w.Helper()
	before := w.leader("")
	_, pid := w.leading()
	w.stop("apiserver")
	w.signal(pid, syscall.SIGKILL)
	time.Sleep(lasting(75*time.Second, lapse))
	w.apiServerBack()
	took := w.servedWithin("changed", 30*time.Second)
	require.NotEqual(w, before, w.leader(before))
	w.Logf("a new Service had its address %v after it was created", took.Round(time.Millisecond))
}

// servedWithin creates a Service and returns how long it took until it had an address.
func (w *witness) servedWithin(name string, atMost time.Duration) time.Duration {
	w.Helper()
	began := time.Now()
	w.create(name, nil)
	w.address(name)
	took := time.Since(began)
	require.Less(w, took, atMost)
	return took
}

// staleStandbyLeads has the standby miss a Service that got an address, while another one
// waits for that address, and then ends the leader.
func (w *witness) staleStandbyLeads() {
	w.Helper()
	node, pid := w.leading()
	standby := "node1"
	if node == standby {
		standby = "node2"
	}
	back := w.withoutAPIServer(standby)
	w.create("late", nil)
	address := w.address("late")
	w.create("waiting", func(svc *corev1.Service) {
		svc.Annotations = map[string]string{"baremetal.cloud/addresses": address.String()}
	})
	w.says("waiting", "baremetal.cloud/Allocated", "AddressInUse")
	time.Sleep(lasting(75*time.Second, 15*time.Second))
	back()
	time.Sleep(lasting(28*time.Second, 6*time.Second))
	before := w.leader("")
	w.signal(pid, syscall.SIGTERM)
	w.leader(before) // the standby, or the process that was started in place of the leader's
	w.create("next", nil)
	require.NotEqual(w, address, w.address("next"))
	for until := time.Now().Add(lapse); time.Now().Before(until); time.Sleep(pause) {
		require.Equal(w, address, w.published("late"))
		require.Empty(w, w.get("waiting").Status.LoadBalancer.Ingress)
	}
	w.delete("late")
	w.eventually(func(t *assert.CollectT) { require.Equal(t, address, w.published("waiting")) })
}

// withoutAPIServer has a node lose what it sends to the API server, also by kube-proxy.
func (w *witness) withoutAPIServer(node string) (back func()) {
	w.Helper()
	nft := func(script string) {
		w.Helper()
		_, err := w.c.In(w.Context(), node, "nft", script)
		require.NoError(w, err)
	}
	nft(fmt.Sprintf("add table inet away; add chain inet away output { type filter hook output priority 0; }; add rule inet away output tcp dport %d drop", controlplane.Port))
	return func() { nft("delete table inet away") }
}

// leadersNodeIsCut measures how soon after the loss of the leader's node a new Service has
// its address, Lease included: 13 s is right, 22.7 s was seen. There is a node without an
// announcer, for which nothing has to wait.
func (w *witness) leadersNodeIsCut() {
	w.Helper()
	bare := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "bare"}}
	_, err := w.client.CoreV1().Nodes().Create(w.Context(), bare, metav1.CreateOptions{})
	require.NoError(w, err)
	node, _ := w.leading()
	time.Sleep(lapse) // both replicas know the announcers
	began := time.Now()
	require.NoError(w, w.c.Cut(w.Context(), node, testbed.Silent))
	w.create("cut", nil)
	w.address("cut")
	took := time.Since(began)
	w.Logf("a new Service had its address %v after the leader's node was cut off", took.Round(time.Millisecond))
	require.Less(w, took, 18*time.Second)
	require.NoError(w, w.c.Heal(w.Context(), node))
	require.NoError(w, w.client.CoreV1().Nodes().Delete(w.Context(), "bare", metav1.DeleteOptions{}))
}
