package cloud

import (
	"net/netip"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// ownerHistory remembers which node owns each address, since when and why. It is pure; the core
// is its owner.
type ownerHistory struct {
	// claimedSince is since when a node claims an address, by the clock of this replica, which
	// hears the nodes on a standby too: so a new leader knows what it was not told as leader.
	claimedSince map[string]map[netip.Addr]time.Time
	// answering are the addresses that are or were answered since a Service has held them.
	answering map[netip.Addr]ownerRecord
	// moves are those that takeMoves has not returned yet.
	moves []move
	// moved counts all of them by reason.
	moved map[reason.Reason]uint64
}

// ownerRecord is the node that answers for an address, or did last.
type ownerRecord struct {
	node string
	// why is Announced for the first node, and why the address left the node before after that.
	why reason.Reason
	// between reports whether the node no longer answers, and the next one not yet. Then lost is
	// why, where it was for longer than a move takes.
	between bool
	lost    reason.Reason
}

// move is an address that another node answers for.
type move struct {
	address  netip.Addr
	from, to string
	why      reason.Reason
	// services are the keys of those that hold the address.
	services []string
}

func newOwnerHistory() ownerHistory {
	return ownerHistory{
		claimedSince: map[string]map[netip.Addr]time.Time{},
		answering:    map[netip.Addr]ownerRecord{},
		moved:        map[reason.Reason]uint64{},
	}
}

// takeClaims notes what node claims of those addresses of which its report says something new.
func (l *ownerHistory) takeClaims(node string, report plan.Report, changed []netip.Addr, now time.Time) {
	claimed := l.claimedSince[node]
	if claimed == nil {
		claimed = map[netip.Addr]time.Time{}
		l.claimedSince[node] = claimed
	}
	for _, address := range changed {
		claims := report.Claims.Has(address)
		if _, known := claimed[address]; claims && !known {
			claimed[address] = now
		} else if !claims {
			delete(claimed, address)
		}
	}
}

// setOwner notes that node owns address; "" is no node, for the reason why, which is "" where no
// Service holds it. left says why the address left a node. setOwner reports whether that is a
// move.
func (l *ownerHistory) setOwner(address netip.Addr, node string, why reason.Reason, left func(from string) reason.Reason) (moved bool) {
	last, known := l.answering[address]
	switch {
	case why == "":
		delete(l.answering, address)
	case node == "" && known:
		last.between = true
		if why != reason.WaitingForAnnouncer {
			last.lost = why
		}
		l.answering[address] = last
	case node == "":
	case !known:
		l.answering[address] = ownerRecord{node: node, why: reason.Announced}
	case node == last.node:
		l.answering[address] = ownerRecord{node: node, why: last.why}
	default:
		cause := last.lost
		if cause == "" {
			cause = left(last.node)
		}
		l.answering[address] = ownerRecord{node: node, why: cause}
		l.moves = append(l.moves, move{address: address, from: last.node, to: node, why: cause})
		l.moved[cause]++
		return true
	}
	return false
}

// takeMoves returns the moves since it was last called, in their order.
func (l *ownerHistory) takeMoves() []move {
	out := l.moves
	l.moves = nil
	return out
}
