package loadbalancer

import (
	"maps"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// departureLimit is for how long the plan tells a node that lost its Node object to give up
// what it answers for. After that the plan goes on without the node.
const departureLimit = 10 * time.Second

// departure is a node that was deleted while its announcer had a stream: it runs, answers, and
// would go on for ever if it were forgotten. Until it has acknowledged an empty plan it stays in
// Balancer.nodes, as one that is being deleted, and a peer of those that it was a peer of.
type departure struct {
	// begun reports whether a leader has told it so, and until is for how long it is waited for.
	begun bool
	until time.Time
}

// Cause is why a departure has ended.
type Cause string

// The causes.
const (
	// CauseAcknowledged is that the node carries out an empty plan.
	CauseAcknowledged Cause = "it has acknowledged an empty plan"
	// CauseLeft is that its stream ended, and it answered for nothing by then.
	CauseLeft Cause = "its announcer has ended"
	// CauseStreamEnded is that its stream ended before it had given up its addresses.
	CauseStreamEnded Cause = "its announcer has lost its stream"
	// CauseSilent is that every peer with a stream finds it down.
	CauseSilent Cause = "its peers do not hear it"
	// CauseOverdue is that it did not acknowledge in time.
	CauseOverdue Cause = "it did not acknowledge an empty plan in time"
)

// Departed is a node that is forgotten, and why.
type Departed struct {
	Node  string
	Cause Cause
}

// DeleteNode takes over that a Node object is gone. A node with a stream of its announcer
// departs: its addresses move as those of a node that is being deleted, and Depart forgets it
// in the end.
func (b *Balancer) DeleteNode(name string) {
	n, known := b.nodes[name]
	if !known {
		return
	}
	if !b.isConnected(name) {
		b.forgetNode(name)
		return
	}
	if b.departing[name] == nil {
		b.departing[name] = &departure{}
		b.sessions.holdSessions(name)
	}
	n.Deleting = true
	b.SetNode(n)
}

// endDeparture ends the departure of a node that is there again.
func (b *Balancer) endDeparture(name string) {
	if b.departing[name] != nil {
		delete(b.departing, name)
		b.sessions.releaseSessions(name)
	}
}

// Depart begins and ends the departures of deleted nodes, in the name of a leader; call it before
// Plan. begun are the nodes that it begins to tell, sorted, and again is when to call it though
// nothing has changed; 0 is never.
func (b *Balancer) Depart(now time.Time) (begun []string, ended []Departed, again time.Duration) {
	for _, name := range slices.Sorted(maps.Keys(b.departing)) {
		d := b.departing[name]
		if !d.begun {
			d.begun, d.until = true, now.Add(departureLimit)
			if b.sessions.held[name] == nil {
				// A leader that has planned nothing yet: the one before had these watch each other.
				b.sessions.held[name] = ringNeighbours(b.ringsOf(name), b.sessions.limit)[name]
			}
			begun = append(begun, name)
		}
		if cause := b.departureCause(name, d, now); cause != "" {
			b.forgetNode(name)
			ended = append(ended, Departed{name, cause})
			continue
		}
		if left := d.until.Sub(now); again == 0 || left < again {
			again = left
		}
	}
	return begun, ended, again
}

// departureCause returns why to forget a departing node, or "". Where the node has acknowledged
// that it answers for nothing, its peers are let go of first, so that it stops speaking to them.
func (b *Balancer) departureCause(name string, d *departure, now time.Time) Cause {
	set, told := b.plan.sets[name]
	empty := told && set.Assignments.Len()+len(set.BGP.Peers)+len(set.BGP.Routes) == 0 && len(b.plan.addressesByNode[name]) == 0
	acknowledged := empty && !b.isBehind(name) && answersNothing(b.announcer[name].report)
	switch {
	case acknowledged && len(set.Failover.Peers) == 0:
		return CauseAcknowledged
	case b.agreeDown(name, b.sessions.watchedBy(name)):
		return CauseSilent
	case !now.Before(d.until):
		return CauseOverdue
	case acknowledged:
		b.sessions.releaseSessions(name)
	}
	return ""
}

// leftWith returns why a departure has ended with the stream on which report was the last one.
func leftWith(report plan.Report) Cause {
	if answersNothing(report) {
		return CauseLeft
	}
	return CauseStreamEnded
}

func answersNothing(report plan.Report) bool {
	return report.Claims.Len()+len(report.BGP.Sessions) == 0
}

// Departs reports whether node was deleted and has yet to acknowledge it.
func (b *Balancer) Departs(node string) bool { return b.departing[node] != nil }

// forgetNode forgets a Node; its addresses move.
func (b *Balancer) forgetNode(name string) {
	b.endDeparture(name)
	b.countZone(b.nodes[name].Zone, -1)
	b.markAddressesDirty(b.nodes[name].Addresses)
	delete(b.probing.of, name)
	delete(b.nodes, name)
	b.onLink(name)
	delete(b.peers, name)
	b.rollout.dropNode(name)
	delete(b.plan.provers, name)
	for address := range b.withdrawing {
		b.stopWaiting(address, name)
	}
	b.endRoutes(name, true)
	b.plan.meshDirty, b.plan.routing.renew = true, true
	b.conflicts.renew, b.probing.renew = true, true
	b.markNodeDirty(name)
}

// leavingOwner returns the node that answers for an address which has no list yet, may not answer for
// it, and learns so only from this leader's first plan; or "". It hands the address over as in a
// planned move.
func (b *Balancer) leavingOwner(f *candidateSet) string {
	var may []string
	for name, n := range b.nodes {
		if b.isConnected(name) && b.hasClaimed(name, f.address) && b.mayAnswerFor(n, f.address, f.l2) != "" {
			may = append(may, name)
		}
	}
	slices.Sort(may)
	return b.claimantOf(may, f.address)
}

// holdSessions keeps the sessions of a node until releaseSessions, as far as there is room.
func (s *sessions) holdSessions(x string) {
	if others := s.watchedBy(x); len(others) > 0 {
		s.held[x] = others
		s.touchHeld()
	}
}

// releaseSessions ends holdSessions.
func (s *sessions) releaseSessions(x string) {
	s.touchHeld()
	delete(s.held, x)
}

// touchHeld notes that nodes with sessions that are held may watch others than they did.
func (s *sessions) touchHeld() {
	for x, others := range s.held {
		s.changed[x] = true
		for _, y := range others {
			s.changed[y] = true
		}
	}
}

// heldBeside returns the nodes that have their sessions with x held beside base, the nodes that x
// watches in any case. What it returns is the same for both ends, and no node watches more than it
// may.
func (s *sessions) heldBeside(x string, base []string) []string {
	var out []string
	if others, departs := s.held[x]; departs {
		for _, y := range s.firstWithRoom(base, others) {
			if s.held[y] == nil && slices.Contains(s.firstWithRoom(s.baseOf(y), s.holdersOf(y)), x) {
				out = append(out, y)
			}
		}
		return out
	}
	for _, y := range s.firstWithRoom(base, s.holdersOf(x)) {
		if slices.Contains(s.firstWithRoom(s.baseOf(y), s.held[y]), x) {
			out = append(out, y)
		}
	}
	return out
}

// holdersOf returns the nodes that hold sessions with x, sorted.
func (s *sessions) holdersOf(x string) []string {
	var out []string
	for y, others := range s.held {
		if slices.Contains(others, x) {
			out = append(out, y)
		}
	}
	slices.Sort(out)
	return out
}

// firstWithRoom returns those of more, in their order, that a node has room for which watches base.
func (s *sessions) firstWithRoom(base, more []string) []string {
	out := slices.DeleteFunc(slices.Clone(more), func(y string) bool { return slices.Contains(base, y) })
	return out[:min(len(out), max(s.limit.most-len(base), 0))]
}
