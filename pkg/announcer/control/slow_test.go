package control

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// bigSet is a plan that fits no buffer on the way.
func bigSet(term, revision uint64) plan.NodePlan {
	s := plan.NodePlan{Cluster: "cluster", Version: plan.Version{Term: term, Revision: revision}}
	addr := netip.MustParseAddr("2001:db8::")
	for range 5000 {
		addr = addr.Next()
		s.Assignments = s.Assignments.With(plan.Assignment{
			Address: addr, Version: s.Version, Candidates: []string{strings.Repeat("n", 100), "b"},
		})
	}
	return s
}

// TestSlowNode: a node that does not read delays neither Publish nor any other node, and
// when it reads again it skips what was superseded meanwhile.
func TestSlowNode(t *testing.T) {
	r := startReplica(t)
	slow := rawOf(t, r, "slow", protocolRange(protocolMin, protocolMax), "pod-slow")
	say(t, slow, helloMessage())
	eventually(t, func() bool { return len(r.history("slow")) == 1 }, "connected")
	quick := startNode(t, "quick", r)

	const revisions = 60
	for i := range uint64(revisions) {
		r.Publish(plans{"slow": bigSet(1, i+1), "quick": set(1, i+1, "192.0.2.1")})
		eventually(t, func() bool { return quick.plan(r.address).Version.Revision == i+1 }, "quick at %d", i+1)
	}
	// It can still report, and is heard.
	say(t, slow, reportFrom(reportDelta(plan.Report{}, claims("192.0.2.7"))))
	eventually(t, func() bool { report, _ := r.report("slow"); return report.Claims.Len() == 1 }, "slow is heard")

	var have plan.NodePlan
	received := 0
	_, err := slow.Recv() // Welcome
	require.NoError(t, err)
	for have.Version.Revision != revisions {
		message, err := slow.Recv()
		require.NoError(t, err)
		have, err = applyPlan(have, message.GetPlan())
		require.NoError(t, err)
		received++
	}
	require.Equal(t, bigSet(1, revisions), have)
	require.LessOrEqual(t, received, 5, "what lay in buffers and the newest")
}

// TestSlowNodeIsSuperseded although the replica is stuck sending to it.
func TestSlowNodeIsSuperseded(t *testing.T) {
	r := startReplica(t)
	slow := raw(t, r, "pod/1")
	say(t, slow, helloMessage())
	eventually(t, func() bool { return len(r.history("a")) == 1 }, "connected")
	r.Publish(plans{"a": bigSet(1, 1)})
	again := raw(t, r, "pod/1")
	say(t, again, helloMessage())
	_, err := again.Recv()
	require.NoError(t, err)
	for err == nil {
		_, err = slow.Recv()
	}
	require.Equal(t, codes.Aborted, status.Code(err))
}

// TestSlowReplica: a client whose OnPlan takes long keeps reporting, and other replicas
// are not delayed.
func TestSlowReplica(t *testing.T) {
	stuck := startReplica(t)
	other := startReplica(t, withAuthority(stuck.authority))
	release := make(chan struct{})
	n := startNode(t, "a", stuck, func(n *node, o *ClientOptions) {
		o.Controllers = []string{stuck.address, other.address}
		o.OnPlan = func(replica string, set plan.NodePlan) {
			if replica == stuck.address {
				<-release
			}
			n.onPlan(replica, set)
		}
	})
	stuck.Publish(plans{"a": set(1, 1, "192.0.2.1")})
	other.Publish(plans{"a": set(1, 2, "192.0.2.1")})
	n.awaitPlan(t, other.address, set(1, 2, "192.0.2.1"))
	for i := range 50 {
		n.SetReport(claims(fmt.Sprintf("192.0.2.%d", i)))
	}
	eventually(t, func() bool {
		report, _ := stuck.report("a")
		return report.Claims.Len() == 1 && report.Claims.Nth(0).Address == netip.MustParseAddr("192.0.2.49")
	}, "the newest report at the replica that waits")
	close(release)
	n.awaitPlan(t, stuck.address, set(1, 1, "192.0.2.1"))
}

// TestManyNodes connect at once and all get their own plan.
func TestManyNodes(t *testing.T) {
	const count = 60
	r := startReplica(t)
	want := plans{}
	nodes := map[string]*node{}
	for i := range count {
		name := fmt.Sprintf("node%d", i)
		want[name] = set(1, 1, fmt.Sprintf("192.0.2.%d", i))
		nodes[name] = startNode(t, name, r)
	}
	r.Publish(want)
	for name, n := range nodes {
		n.awaitPlan(t, r.address, want[name])
	}
	r.planned(t, count)
}
