package control

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

type plans = map[string]plan.NodePlan

// TestWholeStateThenDeltas follows one node through its life.
func TestWholeStateThenDeltas(t *testing.T) {
	r := startReplica(t)
	n := startNode(t, "a", r)
	n.awaitUp(t)
	report, ok := r.report("a")
	require.True(t, ok)
	require.Equal(t, claims(), report)

	many := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"}
	r.Publish(plans{"a": set(1, 1, many...), "b": set(1, 1, "192.0.2.9")})
	n.awaitPlan(t, r.address, set(1, 1, many...))
	r.sent(t, 1, 0)

	r.Publish(plans{"a": set(1, 2, "192.0.2.1", "192.0.2.3", "192.0.2.4", "2001:db8::1")})
	n.awaitPlan(t, r.address, set(1, 2, "192.0.2.1", "192.0.2.3", "192.0.2.4", "2001:db8::1"))
	r.sent(t, 1, 1)

	// More to withdraw than to keep: the whole is shorter than the difference.
	r.Publish(plans{"a": set(1, 3)})
	n.awaitPlan(t, r.address, set(1, 3))
	r.sent(t, 2, 1)

	n.SetReport(claims("192.0.2.3", "192.0.2.1"))
	eventually(t, func() bool { report, _ := r.report("a"); return report.Claims.Len() == 2 }, "two claims")
	n.SetReport(claims("192.0.2.3"))
	eventually(t, func() bool { report, _ := r.report("a"); return report.Claims.Len() == 1 }, "one claim")
	report, _ = r.report("a")
	require.Equal(t, claims("192.0.2.3"), report)

	counters := r.Counters()
	require.Equal(t, 1, counters.Planned)
	require.Equal(t, 0, counters.Silent)
	require.Equal(t, 0, counters.Pending)
	require.EqualValues(t, 3, counters.Reports)
	require.NotZero(t, counters.PlanBytes)
	require.NotZero(t, counters.ReportBytes)
}

// TestRepeatedPlanIsNotSent: a version names a plan, so that publishing every node's plan
// because one changed costs the others nothing.
func TestRepeatedPlanIsNotSent(t *testing.T) {
	r := startReplica(t)
	n := startNode(t, "a", r)
	n.awaitUp(t)
	for range 3 {
		r.Publish(plans{"a": set(1, 1, "192.0.2.1")})
	}
	r.Publish(plans{}) // says nothing about a
	r.Publish(plans{"a": {}})
	r.Publish(plans{"a": set(1, 2, "192.0.2.1", "192.0.2.2")})
	n.awaitPlan(t, r.address, set(1, 2, "192.0.2.1", "192.0.2.2"))
	require.LessOrEqual(t, n.planCount(), 2)
	eventually(t, func() bool {
		c := r.Counters()
		return c.Snapshots+c.Deltas == uint64(n.planCount())
	}, "all are counted")
}

// TestPlanOfAnotherClusterComesWhole since a difference could not be checked against it.
func TestPlanOfAnotherClusterComesWhole(t *testing.T) {
	r := startReplica(t)
	n := startNode(t, "a", r)
	r.Publish(plans{"a": set(1, 1, "192.0.2.1", "192.0.2.2")})
	n.awaitPlan(t, r.address, set(1, 1, "192.0.2.1", "192.0.2.2"))
	other := set(1, 2, "192.0.2.1", "192.0.2.2")
	other.Cluster = "other"
	r.Publish(plans{"a": other})
	n.awaitPlan(t, r.address, other)
	r.sent(t, 2, 0)
}

// TestStandby is silent, has the node's state, and speaks at once when it leads.
func TestStandby(t *testing.T) {
	r := startReplica(t)
	r.Publish(nil)
	n := startNode(t, "a", r)
	n.SetReport(claims("192.0.2.1"))
	n.awaitUp(t)
	eventually(t, func() bool { report, _ := r.report("a"); return report.Claims.Len() == 1 }, "the claim")
	require.Equal(t, 1, r.Counters().Silent)
	require.Zero(t, n.planCount())

	r.Publish(plans{"a": set(1, 1, "192.0.2.1")})
	n.awaitPlan(t, r.address, set(1, 1, "192.0.2.1"))

	r.Publish(nil) // stands down: later nodes hear nothing, this one keeps what it has
	late := startNode(t, "late", r)
	late.awaitUp(t)
	late.SetReport(claims("192.0.2.9"))
	eventually(t, func() bool { report, _ := r.report("late"); return report.Claims.Len() == 1 }, "the claim")
	require.Zero(t, late.planCount())
	require.Equal(t, set(1, 1, "192.0.2.1"), n.plan(r.address))
	_, ever := n.streams()
	require.Equal(t, 1, ever)
}

// TestFence holds plans back that were published while it was open.
func TestFence(t *testing.T) {
	var closed, asked atomic.Bool
	closed.Store(true)
	r := startReplica(t, withServer(func(o *ServerOptions) {
		o.Fence = func() error {
			asked.Store(true)
			if closed.Load() {
				return fmt.Errorf("the lease was not renewed in time")
			}
			return nil
		}
	}))
	n := startNode(t, "a", r)
	r.Publish(plans{"a": set(1, 1, "192.0.2.1")})
	n.awaitUp(t)
	eventually(t, asked.Load, "the fence is asked")
	require.Zero(t, r.Counters().Snapshots)
	closed.Store(false)
	r.Publish(plans{"a": set(1, 1, "192.0.2.1")})
	n.awaitPlan(t, r.address, set(1, 1, "192.0.2.1"))
}

// TestReconnect to a replica that was restarted, with the whole state in both directions.
func TestReconnect(t *testing.T) {
	first := startReplica(t)
	n := startNode(t, "a", first)
	n.SetReport(claims("192.0.2.1"))
	first.Publish(plans{"a": set(1, 1, "192.0.2.1")})
	n.awaitPlan(t, first.address, set(1, 1, "192.0.2.1"))
	require.NoError(t, first.stop())

	second := startReplica(t, withAddress(first.address), withAuthority(first.authority))
	second.Publish(plans{"a": set(2, 1, "192.0.2.1", "192.0.2.2")})
	n.awaitPlan(t, first.address, set(2, 1, "192.0.2.1", "192.0.2.2"))
	report, _ := second.report("a")
	require.Equal(t, claims("192.0.2.1"), report)
	second.sent(t, 1, 0)
}

// TestEveryReplicaHasAStream so that a new leader has all nodes at once.
func TestEveryReplicaHasAStream(t *testing.T) {
	leader := startReplica(t)
	standby := startReplica(t, withAuthority(leader.authority))
	n := startNode(t, "a", leader, func(_ *node, o *ClientOptions) { o.Controllers = []string{leader.address, standby.address} })
	leader.Publish(plans{"a": set(1, 1, "192.0.2.1")})
	n.awaitPlan(t, leader.address, set(1, 1, "192.0.2.1"))
	n.SetReport(claims("192.0.2.1"))
	for _, r := range []*replica{leader, standby} {
		eventually(t, func() bool { report, _ := r.report("a"); return report.Claims.Len() == 1 }, "the claim at both")
	}
	require.NoError(t, leader.stop())
	standby.Publish(plans{"a": set(2, 1, "192.0.2.2")})
	n.awaitPlan(t, standby.address, set(2, 1, "192.0.2.2"))
}

// TestOneStreamPerReplica although it is reached by two addresses.
func TestOneStreamPerReplica(t *testing.T) {
	r := startReplica(t, withAddress("0.0.0.0:0"))
	port := netip.MustParseAddrPort(r.address).Port()
	doors := []string{fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.2:%d", port)}
	n := startNode(t, "a", r, func(_ *node, o *ClientOptions) { o.Controllers = doors })
	eventually(t, func() bool {
		now, ever := n.streams()
		return now == 1 && ever >= 2 && r.Counters().Superseded > 0
	}, "both doors were tried and one is left")
	// Which one is left is settled: plans arrive, and no further stream is opened.
	settled := r.Counters().Superseded
	for revision := range uint64(20) {
		r.Publish(plans{"a": set(1, revision+1, "192.0.2.1")})
		eventually(t, func() bool {
			return n.plan(doors[0]).Version.Revision == revision+1 || n.plan(doors[1]).Version.Revision == revision+1
		}, "plan %d", revision+1)
	}
	require.LessOrEqual(t, r.Counters().Superseded, settled+2)
	r.planned(t, 1)
}

// TestLastReport reaches the replica although the node is stopped right after it, be it
// before it heard Welcome.
func TestLastReport(t *testing.T) {
	r := startReplica(t)
	n := startNode(t, "a", r)
	n.SetReport(claims("192.0.2.1", "192.0.2.2"))
	eventually(t, func() bool { report, _ := r.report("a"); return report.Claims.Len() == 2 }, "the claims")
	n.SetReport(claims())
	require.NoError(t, n.stop())
	eventually(t, func() bool { _, ok := r.report("a"); return !ok }, "disconnected")
	history := r.history("a")
	require.Equal(t, []string{"reported", "disconnected"}, history[len(history)-2:])
	require.Zero(t, r.last("a").Claims.Len())
}

// TestNoReportNoStream: an announcer that does not know yet what it claims says nothing.
func TestNoReportNoStream(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := NewClient(ClientOptions{Node: "a", Controllers: []string{"192.0.2.1:1"}, CAFile: "missing", TokenFile: "missing"})
	require.NoError(t, c.Run(ctx))
}

func TestClientRefusesUnusableOptions(t *testing.T) {
	for _, controllers := range [][]string{nil, {""}, {"host"}, {":1"}, {"host:0"}, {"host:70000"}, {"host:name"}} {
		err := NewClient(ClientOptions{Node: "a", Controllers: controllers}).Run(t.Context())
		require.ErrorContains(t, err, "control client:", "%q", controllers)
	}
	err := NewClient(ClientOptions{Controllers: []string{"h:1"}}).Run(t.Context())
	require.ErrorContains(t, err, "node is empty")
}
