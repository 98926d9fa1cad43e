package loadbalancer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// deletion returns three nodes of which node3, which answers for the address, was just deleted.
func deletion(t *testing.T) *world {
	w := newWorld(t)
	w.run(`pool default 10.0.0.0/29
node node1
node node2
node node3
connect node1 node2 node3
failover 100ms 3
leader 1
service a
endpoints a node1
plan
ack node1 node2 node3
delete-node node3
`)
	return w
}

// TestFault_K2_3_DeletedNodeMovesAsPlanned: a Node that is deleted while its announcer has a
// stream is told so, and hears and is heard by the others until it has stopped.
func TestFault_K2_3_DeletedNodeMovesAsPlanned(t *testing.T) {
	w, vip := deletion(t), netip.MustParseAddr("10.0.0.0")
	w.run("depart\nplan\n")
	list, _ := w.plans["node3"].Assignments.Find(vip)
	require.Equal(t, []string{"node1", "node2", "node3"}, list.Candidates, "it goes on until it hears another one")
	for _, node := range []string{"node1", "node2"} {
		require.True(t, watchesPeer(w.plans[node].Failover, "node3"))
		require.True(t, watchesPeer(w.plans["node3"].Failover, node))
	}
	w.run("ack node1\nplan\n")
	require.Zero(t, w.plans["node3"].Assignments.Len())
	require.True(t, watchesPeer(w.plans["node3"].Failover, "node1"), "a peer until it has acknowledged")
	w.run("ack node3\ndepart\nplan\n")
	require.Empty(t, w.plans["node3"].Failover.Peers, "it speaks to nobody any longer")
	require.Equal(t, "begun [], again 0s\nnode3 is forgotten: it has acknowledged an empty plan\n", w.run("ack node3\ndepart\n"))
}

// TestFault_K2_3_DeletedWhileTheLeaderChanges: the leader ends before it has told the node. The
// next one saw the deletion as a standby, and it too moves the address as planned.
func TestFault_K2_3_DeletedWhileTheLeaderChanges(t *testing.T) {
	w, vip := deletion(t), netip.MustParseAddr("10.0.0.0")
	w.run("new-leader\nleader 2\n")
	require.Equal(t, "begun [node3], again 10s\n", w.run("depart\n"))
	w.run("plan\n")
	list, _ := w.plans["node3"].Assignments.Find(vip)
	require.Len(t, list.Candidates, 3)
	require.Equal(t, "node3", list.Candidates[2], "it goes on until it hears another one")
	require.Equal(t, plan.Version{Term: 2, Revision: 2}, list.Version)
	require.True(t, watchesPeer(w.plans["node3"].Failover, list.Candidates[0]))
	w.run("ack " + list.Candidates[0] + "\nplan\nack node3\ndepart\nplan\nack node3\n")
	require.Equal(t, "begun [], again 0s\nnode3 is forgotten: it has acknowledged an empty plan\n", w.run("depart\n"))
}

// TestFault_K2_3_DeletedNodeThatIsDead: silence of its stream alone forgets nothing too early,
// and what its peers say does at once; 10 s do in any case.
func TestFault_K2_3_DeletedNodeThatIsDead(t *testing.T) {
	w := deletion(t)
	w.run("depart\nplan\ndown node1 node3\n")
	_, ended, _ := w.b.Depart(w.now)
	require.Empty(t, ended, "one peer's word is not enough")
	w.run("down node2 node3\n")
	_, ended, _ = w.b.Depart(w.now)
	require.Equal(t, []Departed{{"node3", CauseSilent}}, ended)

	w = deletion(t)
	w.run("depart\nplan\n")
	_, ended, again := w.b.Depart(w.now.Add(departureLimit - time.Millisecond))
	require.Empty(t, ended)
	require.Equal(t, time.Millisecond, again)
	_, ended, _ = w.b.Depart(w.now.Add(departureLimit))
	require.Equal(t, []Departed{{"node3", CauseOverdue}}, ended)
}

// TestFault_K2_3_DeletedNodeWithRoutes: sessions to routers end with the Node, too.
func TestFault_K2_3_DeletedNodeWithRoutes(t *testing.T) {
	w := newWorld(t)
	w.run(`pool default 10.0.0.0/29
node node1
node node2
peer tor
advertise default tor
connect node1 node2
failover 100ms 3
leader 1
service a
endpoints a node1 node2
plan
ack node1 node2
told node2 tor=up
`)
	require.NotEmpty(t, w.plans["node2"].BGP.Routes)
	w.run("delete-node node2\ndepart\nplan\n")
	require.Empty(t, w.plans["node2"].BGP.Routes)
	require.Empty(t, w.plans["node2"].BGP.Peers)
	report := w.b.announcer["node2"].report
	report.Plan, report.Claims = w.plans["node2"].Version, plan.Index[plan.Claim]{}
	require.NotEmpty(t, report.BGP.Sessions)
	w.b.Observe("node2", report)
	_, ended, _ := w.b.Depart(w.now)
	require.Empty(t, ended, "its sessions have not ended yet")
	report.BGP.Sessions = nil
	w.b.Observe("node2", report)
	_, ended, _ = w.b.Depart(w.now)
	require.Equal(t, []Departed{{"node2", CauseAcknowledged}}, ended)
}

// TestFault_K2_11_AllUnhealthyMoveNothing: all kube-proxies end together. The nodes find that within
// seconds of each other, and no address moves to one that is no healthier, nor does a route.
func TestFault_K2_11_AllUnhealthyMoveNothing(t *testing.T) {
	for _, way := range []string{"", "peer tor\nadvertise default tor\n"} {
		w, vip := newWorld(t), netip.MustParseAddr("10.0.0.0")
		w.hasty = true
		w.run("pool default 10.0.0.0/29\nnode node1\nnode node2\nnode node3\n" + way + `health
connect node1 node2 node3
failover 100ms 3
leader 1
service a
endpoints a node1 node2 node3
plan
ack node1 node2 node3
`)
		owner, before := w.b.plan.ownerOf(vip), map[string]plan.NodePlan{}
		order := []string{"node1", "node2", "node3"}
		for i, node := range order {
			before[node] = w.plans[node]
			if node == owner {
				order[0], order[i] = order[i], order[0]
			}
		}
		unmoved := func() {
			t.Helper()
			w.run("plan\n")
			for node, was := range before {
				require.Equal(t, was.BGP.Routes, w.plans[node].BGP.Routes)
				require.Equal(t, was.Assignments, w.plans[node].Assignments)
			}
		}
		for i, node := range order {
			w.run("unhealthy " + node + "\n")
			unmoved()
			if i < 2 {
				w.now = w.now.Add(3 * time.Second)
				unmoved()
			}
		}
		for range 20 {
			w.now = w.now.Add(time.Second)
			unmoved()
		}
	}
}

// TestFault_K2_11_UnhealthyNodeIsRelieved: where another node is healthier the address moves after
// unhealthyDelay, and not before.
func TestFault_K2_11_UnhealthyNodeIsRelieved(t *testing.T) {
	w, vip := newWorld(t), netip.MustParseAddr("10.0.0.0")
	w.hasty = true
	w.run(`pool default 10.0.0.0/29
node node1
node node2
health
connect node1 node2
failover 100ms 3
leader 1
service a
endpoints a node1 node2
plan
ack node1 node2
`)
	owner := w.b.plan.ownerOf(vip)
	w.run("unhealthy " + owner + "\nplan\n")
	require.Equal(t, unhealthyDelay, w.b.UpdateHealth(w.now))
	w.now = w.now.Add(unhealthyDelay - time.Millisecond)
	w.run("plan\n")
	require.Equal(t, owner, w.b.plan.ownerOf(vip))
	w.now = w.now.Add(time.Millisecond)
	w.run("plan\n")
	require.NotEqual(t, owner, w.b.plan.ownerOf(vip))
}
