package cloud

import (
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// A session that was established and is not any more is told of once, and when it is back;
// how it comes about, and what the plan ends, is no event.
func TestSessionEvents(t *testing.T) {
	up := plan.BGPSession{Peer: "tor-a", State: plan.BGPEstablished}
	down := plan.BGPSession{Peer: "tor-a", State: plan.BGPIdle, Reason: reason.PeerClosed, Message: "the connection was closed"}
	var s sessions
	heard := func(now ...plan.BGPSession) []string {
		var out []string
		for _, e := range s.takeSessions("node1", now) {
			out = append(out, e.kind+" "+e.reason+": "+e.message)
		}
		return out
	}
	require.Empty(t, heard(down))
	require.Empty(t, heard(up))
	require.Empty(t, s.takeSessions("node2", []plan.BGPSession{down}), "another node's")
	require.Equal(t, []string{"Warning BGPSessionLost: the BGP session to tor-a was lost: PeerClosed: the connection was closed"}, heard(down))
	require.Empty(t, heard(down))
	require.Equal(t, []string{"Normal BGPSessionEstablished: the BGP session to tor-a is established again"}, heard(up))
	require.Empty(t, heard(up))
	require.Empty(t, heard(), "the plan does not name the peer any more")
	require.Empty(t, heard(down))
	require.Empty(t, heard(up))
}

// TestFault_K5_5_PlannedEnds: a session that the node ended itself, because its announcer restarts
// or has another configuration, is no Event, and none has an empty reason. One that does not come
// back afterwards is, with its reason.
func TestFault_K5_5_PlannedEnds(t *testing.T) {
	up := plan.BGPSession{Peer: "tor-a", State: plan.BGPEstablished}
	begun := plan.BGPSession{Peer: "tor-a", State: plan.BGPIdle}
	unreachable := plan.BGPSession{Peer: "tor-a", State: plan.BGPActive, Reason: reason.PeerUnreachable, Message: "connection refused"}
	var s sessions
	heard := func(x plan.BGPSession) []sessionEvent { return s.takeSessions("node1", []plan.BGPSession{x}) }
	require.Empty(t, heard(up))
	require.Empty(t, heard(begun))
	require.Empty(t, heard(up))
	require.Empty(t, heard(begun))
	require.Equal(t, []sessionEvent{{"Warning", "BGPSessionLost", "the BGP session to tor-a was lost: PeerUnreachable: connection refused"}}, heard(unreachable))
	require.Empty(t, heard(begun))
	require.Equal(t, []sessionEvent{{"Normal", "BGPSessionEstablished", "the BGP session to tor-a is established again"}}, heard(up))
}

// TestFault_K5_6_ManyRoutesAreTold: one Event says that a router sends many routes, however often it
// is reported.
func TestFault_K5_6_ManyRoutesAreTold(t *testing.T) {
	up := plan.BGPSession{Peer: "tor-a", State: plan.BGPEstablished}
	many := up
	many.Reason, many.Message = reason.TooManyRoutes, "the router has sent more than 10000 routes, none of which is used"
	var s sessions
	heard := func(x plan.BGPSession) []sessionEvent { return s.takeSessions("node1", []plan.BGPSession{x}) }
	require.Empty(t, heard(up))
	require.Equal(t, []sessionEvent{{"Warning", "TooManyRoutes", "the BGP session to tor-a: the router has sent more than 10000 routes, none of which is used"}}, heard(many))
	require.Empty(t, heard(many))
	require.Empty(t, heard(up))
	require.Empty(t, heard(many))
}

// TestFault_K5_3_Warning: the Event on the Node that warns of the end of sessions names the keys, the peers and how many
// nodes follow.
func TestFault_K5_3_Warning(t *testing.T) {
	for want, r := range map[string]loadbalancer.PeerRestart{
		"BGP sessions end and begin anew, as holdTime changed, to tor-a": {Peers: []string{"tor-a"}, Keys: []string{"holdTime"}},
		"BGP sessions end and begin anew, as families, holdTime changed, to tor-a, tor-b; 1 node follows": {
			Peers: []string{"tor-a", "tor-b"}, Keys: []string{"families", "holdTime"}, Waiting: 1,
		},
		"BGP sessions end and begin anew, as port changed, to tor-a; 7 nodes follow, one after the other": {
			Peers: []string{"tor-a"}, Keys: []string{"port"}, Waiting: 7,
		},
	} {
		require.Equal(t, want, restartMessage(r))
	}
}
