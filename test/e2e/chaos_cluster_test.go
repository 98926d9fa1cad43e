//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/test/e2e/observer"
	"baremetal.cloud/ccm/test/e2e/testbed/controlplane"
)

const (
	// deletedEnds is how long the machine of a deleted Node may go on answering: a move by plan.
	deletedEnds = 2 * time.Second
	// leaderDies is how long it takes until there is a plan after the leader was killed: its
	// Lease of 10 s has to expire, and the next one waits up to 10 s for nodes.
	leaderDies = 20 * time.Second
	// ccmUser is the user that the CCM runs as, by deploy/.
	ccmUser = 65532
)

// deleteNode deletes the Node of a machine that runs. Its kubelet registers it again when it is
// restarted, not before.
func (c *chaos) deleteNode(node string) func() {
	c.Helper()
	_, err := c.c.Kubectl(c.Context(), "delete", "node", node)
	require.NoError(c, err)
	return func() { c.start("kubelet:" + node) }
}

// deleted is the effect: a move by plan, and the machine answers for nothing until it has a Node again.
func deleted(_ *chaos, node string) observer.Effect {
	return observer.Effect{Barred: node, Within: deletedEnds}
}

// deleteNodeAsLeaderDies kills the leader just before or just after a Node is deleted.
func (c *chaos) deleteNodeAsLeaderDies(node string) func() {
	c.Helper()
	_, pid := c.leaderNow()
	before, delay := c.random.IntN(2) == 0, c.draw(100*time.Millisecond)
	if before && pid != 0 {
		c.signal(pid, syscall.SIGKILL)
		time.Sleep(delay)
	}
	back := c.deleteNode(node)
	if !before && pid != 0 {
		time.Sleep(delay)
		c.signal(pid, syscall.SIGKILL)
	}
	return back
}

// deletedLate is the effect where nobody leads for a while. A Service with the policy Local is
// out of reach then: its endpoint on the node is gone with the Node.
func deletedLate(c *chaos, node string) observer.Effect {
	local := c.witness.addresses("local", 1)
	barred := observer.Effect{Barred: node, Within: deletedEnds + leaderDies}
	out := barred
	out.Addresses, out.TurnsAway, out.Recovery, out.Elsewhere = local, true, time.Second, &barred
	return out
}

// breakWatches has the standby miss for more than a minute what happens: a Service that gets an
// address, another one that waits for it, and one that takes over the address of a third. Then
// it comes back, and some time later the leader ends.
func (c *chaos) breakWatches(string) func() {
	c.Helper()
	leader, pid := c.leading()
	standby := "node1"
	if leader == standby {
		standby = "node2"
	}
	c.create("before", nil)
	before := c.address("before")
	c.nft(standby, fmt.Sprintf("add table inet %[1]s; add chain inet %[1]s output { type filter hook output priority 0; }; add rule inet %[1]s output meta skuid %[2]d tcp dport %[3]d counter drop",
		ownTable, ccmUser, controlplane.Port))
	c.observer.Note("    the replica on %s has lost the API server", standby)
	c.create("late", nil)
	late := c.address("late")
	c.create("waiting", asking(late))
	c.says("waiting", "baremetal.cloud/Allocated", "AddressInUse")
	c.delete("before")
	c.create("heir", asking(before))
	require.Equal(c, before, c.address("heir"))
	return func() {
		c.nft(standby, "delete table inet "+ownTable)
		c.observer.Note("    the replica on %s has the API server again", standby)
		time.Sleep(c.draw(28 * time.Second))
		holder := c.leader("")
		c.signal(pid, []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[c.random.IntN(2)])
		c.leader(holder)
		c.keeps(map[string]netip.Addr{"late": late, "heir": before, "waiting": {}})
		for _, name := range []string{"waiting", "heir", "late"} {
			c.delete(name)
		}
	}
}

// asking has a Service ask for an address.
func asking(address netip.Addr) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations = map[string]string{"baremetal.cloud/addresses": address.String()}
	}
}

// keeps checks for a while that Services have the addresses that they are to have.
func (c *chaos) keeps(want map[string]netip.Addr) {
	c.Helper()
	for until := time.Now().Add(lapse); time.Now().Before(until); time.Sleep(pause) {
		for name, address := range want {
			require.Equal(c, address, c.published(name), "Service %s", name)
		}
	}
}
