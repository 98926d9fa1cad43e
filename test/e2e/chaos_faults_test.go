//go:build e2e

package e2e

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

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
	// effect is what may be expected while it lasts; nil if addresses move, and nobody is to
	// notice it.
	effect func(c *chaos, node string) observer.Effect
	// needs says that it is nothing without a control plane, so that it has no companion.
	needs bool
}

// recovery is how long after its end a node may still be of no use: an announcer that has
// restarted knows its plan once a stream stands.
const recovery = 5 * time.Second

// companions are those during which the others happen, too.
var companions = []string{"CCM stopped", "API server stopped", "etcd stopped"}

// seconds are those that happen to another node while a fault lasts.
var seconds = []string{"silent cut", "loud cut", "announcer killed", "announcer stopped", "announcer paused"}

// kinds are all.
var kinds = []kind{
	{"silent cut", tenths(3), tenths(50), cut(testbed.Silent), lost, false},
	{"loud cut", tenths(3), tenths(50), cut(testbed.Loud), lost, false},
	{"interface flaps", tenths(1), tenths(10), (*chaos).flap, lost, false},
	{"node is not heard", tenths(5), tenths(40), dropping("iifname %s drop"), lost, false},
	{"node does not hear", tenths(5), tenths(40), dropping("oifname %s drop"), blind, false},
	{"random loss from a node", tenths(10), tenths(40), (*chaos).loseFrom, blind, false},
	{"random loss to a node", tenths(10), tenths(40), (*chaos).loseTo, blind, false},
	{"heartbeats blocked", tenths(5), tenths(40), (*chaos).blockHeartbeats, unheard, false},
	{"heartbeats blocked from the start", tenths(20), tenths(50), (*chaos).blockHeartbeatsAndRestart, out, false},
	{"spoofed heartbeats", tenths(5), tenths(20), (*chaos).spoof, stays, false},
	{"IPv4 address lost", tenths(5), tenths(40), losing(withoutIPv4), unable(netip.Addr.Is4), false},
	{"IPv6 address lost", tenths(5), tenths(40), losing(withoutIPv6), unable(netip.Addr.Is6), false},
	{"all IPv6 addresses lost", tenths(5), tenths(40), losing(withoutIPv6, withoutLinkLocal), unable(netip.Addr.Is6), false},
	{"all addresses lost", tenths(5), tenths(40), losing(withoutIPv4, withoutIPv6, withoutLinkLocal), lost, false},
	{"address moves between nodes", 0, tenths(20), (*chaos).wander, stays, false},
	{"flood of claims", tenths(20), tenths(60), (*chaos).floodFromClient, stays, false},
	{"flood of claims by another host", tenths(20), tenths(60), (*chaos).floodFromAnother, astray, false},

	{"announcer killed", 0, tenths(10), kill("ANNOUNCER_PID_"), lost, false},
	{"announcer stopped", 0, tenths(40), stop("announcer:"), out, false},
	{"announcer paused", tenths(1), tenths(30), pausing("ANNOUNCER_PID_"), lost, false},
	{"announcers rolled out", 0, tenths(5), rollOut("daemonset/baremetal-announcer"), nil, true},
	{"cold start", 0, tenths(5), (*chaos).coldStart, allOut, true},
	{"hostile announcer", tenths(20), tenths(80), (*chaos).lie, hostile, true},
	{"hostile announcer as another node dies", tenths(10), tenths(50), (*chaos).lieAsAnotherDies, hostile, true},
	{"plan of another cluster", tenths(5), tenths(20), (*chaos).foreignPlan, out, true},

	{"leader killed", 0, tenths(10), (*chaos).killLeader, stays, true},
	{"leader paused", tenths(10), tenths(200), (*chaos).pauseLeader, stays, true},
	{"leader killed in a move", tenths(10), tenths(30), (*chaos).killLeaderInMove, nil, true},
	{"CCM stopped", tenths(5), tenths(40), stopAll("ccm"), stays, true},
	{"CCM rolled out", 0, tenths(5), rollOut("deployment/baremetal-ccm"), stays, true},
	{"cut off from the CCM", tenths(20), tenths(60), (*chaos).cutOffCCM, stays, false},
	{"Lease deleted", 0, tenths(30), (*chaos).deleteLease, stays, true},
	{"API server stopped", tenths(5), tenths(40), stopAll("apiserver"), stays, true},
	{"etcd stopped", tenths(5), tenths(40), stopAll("etcd"), stays, true},
	{"slow EndpointSlices", tenths(20), tenths(60), (*chaos).slowEndpointSlices, stays, true},

	{"kube-proxy killed", 0, tenths(20), kill("KUBE_PROXY_PID_"), stays, false},
	{"kube-proxies killed", 0, tenths(20), (*chaos).killProxies, stays, false},
	{"endpoints come and go", 0, tenths(20), (*chaos).churn, endpointGone, true},
	{"cloud-config changed", 0, tenths(20), (*chaos).reconfigure, stays, true},
	{"node excluded", tenths(20), tenths(40), (*chaos).exclude, nil, true},
	{"node drained", tenths(20), tenths(40), (*chaos).drain, nil, true},
	{"Node deleted", tenths(30), tenths(120), (*chaos).deleteNode, deleted, true},
	{"Node deleted as the leader dies", tenths(230), tenths(280), (*chaos).deleteNodeAsLeaderDies, deletedLate, true},
	{"watches broken before the leader changes", tenths(750), tenths(800), (*chaos).breakWatches, stays, true},
}

func tenths(n int) time.Duration { return time.Duration(n) * 100 * time.Millisecond }

// stays is the effect where nobody is to notice anything and no address is to move.
func stays(*chaos, string) observer.Effect { return observer.Effect{Stays: true} }

// lost is the effect on a node that ends to answer without a word.
func lost(_ *chaos, node string) observer.Effect {
	return observer.Effect{Out: []string{node}, Recovery: recovery, TurnsAway: true}
}

// out is that on a node which hands over what it answers for.
func out(_ *chaos, node string) observer.Effect {
	return observer.Effect{Out: []string{node}, Recovery: recovery}
}

// unheard is that on a node which no other one hears, nor it them, while the client hears them all
// and they hear what each announces.
func unheard(*chaos, string) observer.Effect {
	return observer.Effect{TurnsAway: true, Recovery: time.Second}
}

// blind is that of frames which are lost at random, or in one direction so that a node
// claims what it cannot know others to claim.
func blind(*chaos, string) observer.Effect {
	return observer.Effect{Blind: true, TurnsAway: true, Recovery: recovery}
}

// astray is that of claims which the client believes.
func astray(*chaos, string) observer.Effect {
	return observer.Effect{Stays: true, TurnsAway: true, Recovery: mended}
}

// allOut is that of announcers which all begin anew. A leader that does, too, waits up to
// ten seconds for those that may answer.
func allOut(c *chaos, _ string) observer.Effect {
	return observer.Effect{Out: c.nodes(), Recovery: recovery + 10*time.Second, TurnsAway: true}
}

// endpointGone is that of a node whose web server restarts. Other nodes lead to it as long
// as their kube-proxies do not know.
func endpointGone(*chaos, string) observer.Effect {
	return observer.Effect{TurnsAway: true, Recovery: recovery}
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

// stopAll is stop of what belongs to no node.
func stopAll(what string) func(*chaos, string) func() {
	return func(c *chaos, _ string) func() { return stop(what)(c, "") }
}

// pausing stops a process for a while.
func pausing(name string) func(*chaos, string) func() {
	return func(c *chaos, node string) func() {
		pid := c.pid(name + node)
		c.signal(pid, syscall.SIGSTOP)
		return func() { c.signal(pid, syscall.SIGCONT) }
	}
}
