package loadbalancer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// rememberSessions notes which BGP sessions of the last report are established. Of peers that
// are not in it nothing is remembered.
func (a *announcer) rememberSessions() {
	before := a.established
	a.established = nil
	for _, s := range a.report.BGP.Sessions {
		if s.State != plan.BGPEstablished && !before[s.Peer] {
			continue
		}
		if a.established == nil {
			a.established = map[string]bool{}
		}
		a.established[s.Peer] = true
	}
}

// sessionTrouble are the BGP sessions that should carry an address and do not.
type sessionTrouble struct{ sessions []troubledSession }

type troubledSession struct {
	node, peer, why string
	// rank is what is named first: what was lost.
	rank sessionRank
	// begun reports that the session has just begun, and nothing is wrong with it so far.
	begun bool
}

type sessionRank int

const (
	sessionLost sessionRank = iota
	sessionWithoutFamily
	sessionNeverUp
)

func (t *sessionTrouble) add(node string, s plan.BGPSession, f ipam.Family, established bool) {
	out := troubledSession{node: node, peer: s.Peer, why: cmp.Or(s.Message, string(s.Reason), "connecting"), rank: sessionNeverUp, begun: s.Reason == "" && !established && s.State != plan.BGPEstablished}
	switch {
	case s.State == plan.BGPEstablished:
		out.rank, out.why = sessionWithoutFamily, fmt.Sprintf("%s: it carries no %s prefixes", reason.PeerFamilyMissing, f)
	case established:
		out.rank = sessionLost
	}
	t.sessions = append(t.sessions, out)
}

// begins returns a session that has just begun, if there is one.
func (t *sessionTrouble) begins() (session string, begins bool) {
	i := slices.IndexFunc(t.sessions, func(s troubledSession) bool { return s.begun })
	if i < 0 {
		return "", false
	}
	return fmt.Sprintf("node %s to %s", t.sessions[i].node, t.sessions[i].peer), true
}

// String counts the sessions, and names one of each kind: "2 of 2 BGP sessions of 1 node carry
// no route of it: 1 was lost (node1 to tor-a: …), 1 was never established (node1 to tor-b: …)".
func (t *sessionTrouble) String() string {
	slices.SortFunc(t.sessions, func(x, y troubledSession) int {
		return cmp.Or(cmp.Compare(x.rank, y.rank), cmp.Compare(x.node, y.node), cmp.Compare(x.peer, y.peer))
	})
	t.sessions = slices.Compact(t.sessions) // two advertisements may have a peer in common
	var nodes []string
	by := map[sessionRank][]troubledSession{}
	for _, s := range t.sessions {
		nodes = append(nodes, s.node)
		by[s.rank] = append(by[s.rank], s)
	}
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	var parts []string
	for rank, text := range []string{"lost", "established without the family", "never established"} {
		if all := by[sessionRank(rank)]; len(all) > 0 {
			parts = append(parts, fmt.Sprintf("%s %d (node %s to %s: %s)", text, len(all), all[0].node, all[0].peer, reason.Quote(all[0].why)))
		}
	}
	n := len(t.sessions)
	return fmt.Sprintf("%d of %d BGP sessions of %s do not carry it: %s", n, n, reason.Nodes(nodes), strings.Join(parts, ", "))
}
