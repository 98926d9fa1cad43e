package cloud

import (
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/reason"
)

// A session that was established and is not any more is told of once, and when it is back;
// how it comes about, and what the plan ends, is no event.
func TestSessionEvents(t *testing.T) {
	up := announcement.BGPSession{Peer: "tor-a", State: announcement.BGPEstablished}
	down := announcement.BGPSession{Peer: "tor-a", State: announcement.BGPIdle, Reason: reason.PeerClosed, Message: "the connection was closed"}
	var s sessions
	heard := func(now ...announcement.BGPSession) []string {
		var out []string
		for _, e := range s.heard("node1", now) {
			out = append(out, e.kind+" "+e.reason+": "+e.message)
		}
		return out
	}
	require.Empty(t, heard(down))
	require.Empty(t, heard(up))
	require.Empty(t, s.heard("node2", []announcement.BGPSession{down}), "another node's")
	require.Equal(t, []string{"Warning BGPSessionLost: the BGP session to tor-a was lost: PeerClosed: the connection was closed"}, heard(down))
	require.Empty(t, heard(down))
	require.Equal(t, []string{"Normal BGPSessionEstablished: the BGP session to tor-a is established again"}, heard(up))
	require.Empty(t, heard(up))
	require.Empty(t, heard(), "the plan does not name the peer any more")
	require.Empty(t, heard(down))
	require.Empty(t, heard(up))
}
