//go:build e2e

package e2e

import (
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/observer"
	"baremetal.cloud/ccm/test/e2e/testbed"
)

// kind is a kind of fault.
type kind struct {
	name string
	// least and most are how long it lasts; it is drawn from between.
	least, most time.Duration
	// inject begins it and returns what ends it; nil if it ends by itself at once.
	inject func(c *chaos, node string) (heal func())
	// effect is what may be expected while it lasts; nil if nobody is to notice it.
	effect func(c *chaos, node string) observer.Effect
}

// recovery is how long after its end a node may still be of no use: an announcer that has
// restarted knows its plan once a stream stands.
const recovery = 5 * time.Second

// companions are those during which the others happen, too.
var companions = []string{"CCM stopped", "API server stopped", "etcd stopped"}

// kinds are all.
var kinds = []kind{
	{"silent cut", tenths(3), tenths(50), cut(testbed.Silent), lost},
	{"loud cut", tenths(3), tenths(50), cut(testbed.Loud), lost},
	{"announcer killed", 0, tenths(10), kill("ANNOUNCER_PID_"), lost},
	{"announcer stopped", 0, tenths(40), stop("announcer:"), out},
	{"announcer paused", tenths(1), tenths(30), pausing("ANNOUNCER_PID_"), lost},
	{"leader killed", 0, tenths(10), (*chaos).killLeader, nil},
	{"CCM stopped", tenths(5), tenths(40), func(c *chaos, _ string) func() { return stop("ccm")(c, "") }, nil},
	{"API server stopped", tenths(5), tenths(40), func(c *chaos, _ string) func() { return stop("apiserver")(c, "") }, nil},
	{"etcd stopped", tenths(5), tenths(40), func(c *chaos, _ string) func() { return stop("etcd")(c, "") }, nil},
	{"node excluded", tenths(20), tenths(40), (*chaos).exclude, nil},
}

func tenths(n int) time.Duration { return time.Duration(n) * 100 * time.Millisecond }

// lost is the effect on a node that ends to answer without a word.
func lost(_ *chaos, node string) observer.Effect {
	return observer.Effect{Out: []string{node}, Recovery: recovery, TurnsAway: true}
}

// out is that on a node which hands over what it answers for.
func out(_ *chaos, node string) observer.Effect {
	return observer.Effect{Out: []string{node}, Recovery: recovery}
}

func cut(how testbed.Cut) func(*chaos, string) func() {
	return func(c *chaos, node string) func() {
		require.NoError(c, c.c.Cut(c.Context(), node, how))
		return func() { require.NoError(c, c.c.Heal(c.Context(), node)) }
	}
}

// kill ends a process of a node, which is started again by itself.
func kill(pid string) func(*chaos, string) func() {
	return func(c *chaos, node string) func() {
		c.signal(c.pid(pid+node), syscall.SIGKILL)
		return nil
	}
}

// stop ends a program in order and keeps it from being started.
func stop(what string) func(*chaos, string) func() {
	return func(c *chaos, node string) func() {
		c.stop(what + node)
		return func() { c.start(what + node) }
	}
}

// pausing stops a process for a while.
func pausing(name string) func(*chaos, string) func() {
	return func(c *chaos, node string) func() {
		pid := c.pid(name + node)
		c.signal(pid, syscall.SIGSTOP)
		return func() { c.signal(pid, syscall.SIGCONT) }
	}
}

func (c *chaos) killLeader(string) func() {
	if _, pid, ok := c.leaderNow(); ok {
		c.signal(pid, syscall.SIGKILL)
	}
	return nil
}

const excludeLabel = "node.kubernetes.io/exclude-from-external-load-balancers"

// exclude is a planned move.
func (c *chaos) exclude(node string) func() {
	c.label(node, excludeLabel, "")
	return func() { c.unlabel(node, excludeLabel) }
}

// leaderNow returns the node and process of the replica that holds the Lease.
func (c *chaos) leaderNow() (node string, pid int, ok bool) {
	c.Helper()
	lease, err := c.client.CoordinationV1().Leases(system).Get(c.Context(), "baremetal-ccm", metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		c.observer.Note("nobody leads: %v", err)
		return "", 0, false
	}
	node = c.nodeOfReplica(*lease.Spec.HolderIdentity)
	pid = c.processes()[node]
	c.observer.Note("%s on %s leads, process %d", *lease.Spec.HolderIdentity, node, pid)
	return node, pid, pid != 0
}
