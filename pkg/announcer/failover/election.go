package failover

import (
	"cmp"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// skew is how long a candidate that is up and does not claim an address keeps
	// those behind it from claiming it.
	skew = 200 * time.Millisecond
	// Overdue is how long the node that a newer list puts first may find that it is not ready
	// before it takes the address all the same: the newer list takes it from the node that has
	// it.
	Overdue = 10 * time.Second
	// weight is how many times as much one of two nodes has to have heard while they did
	// not hear each other, for the other to be the one that was cut off.
	weight = 4
)

// State is what a node knows of a peer.
type State uint8

// The states of a peer.
const (
	// Unknown is a peer that was not heard since the node began to listen.
	Unknown State = iota
	// Up is a peer that is heard.
	Up
	// Down is a peer that was heard and is silent, or has said that it leaves.
	Down
)

// States returns all states.
func States() []State { return []State{Unknown, Up, Down} }

// String returns the state as the value of a metric label.
func (s State) String() string { return [...]string{"unknown", "up", "down"}[s] }

// Probe is what is known of an address from asking the segment for it.
type Probe uint8

// The states of a probe.
const (
	// Unasked is an address that was not asked for of late.
	Unasked Probe = iota
	// Asking is one that is being asked for.
	Asking
	// Silent is one that no host answered for.
	Silent
	// Answered is one that another machine answers for.
	Answered
)

// Peer is what a node knows of another one with regard to one address.
type Peer struct {
	Node  string
	State State
	// Since is when State began.
	Since time.Duration
	// Hears reports whether the other one hears this node.
	Hears bool
	// Grace is until when it may not have had time to hear this node, or to cease to hear it.
	Grace time.Duration
	// Known reports whether the other's claims are known as they are.
	Known bool
	// Claim is the version of its claim to the address, or zero if it has none. It counts
	// while the other is up.
	Claim plan.Version
	// YieldAt is zero unless it was heard to announce the address though it is not up. It is
	// when this node yields to that: its packets may still come, if the two have only begun to hear
	// each other; after that they are lost, and it answers all the same.
	YieldAt time.Duration
	// Unhealthy reports whether its claims end when a healthy node claims instead.
	Unhealthy bool
	// Mine is how this node stands with others than the other one, and Its how that one reports
	// that it stands with others than this node.
	Mine, Its Standing
	// Heard and HeardByOther are how much this node and the other one heard from any sender while
	// they did not hear each other last.
	Heard, HeardByOther uint32
}

// Input is all that bears on whether a node claims an address.
type Input struct {
	Node       string
	Version    plan.Version
	Candidates []string
	// Able reports whether the node is able to answer for the address.
	Able bool
	// Ready reports whether traffic for the address would be served here. A node that is not
	// takes it only where no other node does.
	Ready bool
	// Unhealthy reports whether the node serves no traffic as it should, and has not for a while: it
	// gives the address to one that does.
	Unhealthy bool
	// Own is the version of the node's present claim, or zero.
	Own plan.Version
	// Since is when the list was taken up, or the last claim of another one that was
	// heard ended, whichever is later.
	Since time.Duration
	// Waited is when the node last learned what a peer claims that it had waited for, or gave
	// that up. All those that waited do so at once, and the order of the list counts from then on.
	Waited time.Duration
	// Restarted reports whether the node came to the list by a restart, so that others may
	// already answer for the address without having been heard yet.
	Restarted bool
	// Unconfirmed reports whether the list may be an old one, so that others than its candidates
	// may answer for the address.
	Unconfirmed bool
	// Unsent reports whether what the node sends to peers does not leave it. What keeps it from speaking
	// may keep them, too, so that they are silent and live.
	Unsent bool
	// Lapse is until when the node leaves the address to a peer that claims it, although a newer list
	// names the node first: it had given the address up under the list before, which named it first,
	// too, and the leader may not have known.
	Lapse time.Duration
	// Listen is until when a cautious node waits for the peers that it has not heard.
	Listen time.Duration
	// Probe is what the segment says.
	Probe Probe
	// Peers are the other candidates, heard or not, and all peers that claim the address.
	Peers []Peer
}

// Decision is what to do about an address.
type Decision struct {
	// Claim is the version to claim the address under; zero is not to claim it.
	Claim plan.Version
	// Probe reports whether the segment has to be asked for the address first.
	Probe bool
	// Again is when to decide anew though nothing happened; zero is never.
	Again time.Duration
}

// Decide is the ownership rule. A node claims an address when it is able and every
// candidate before it is down, or up and has not claimed it for a while; one never heard
// counts as down only if no host answers when the segment is asked. The segment is asked in any case under a
// list that may be an old one, and by a node that cannot send. Hearing a claim it stays out, unless its list
// is newer and names it first.
//
// Of two claims the newer list's wins. From equal lists one that hears no third node yields to one
// that is in company; if that does not tell, that of the node that was not cut off goes on, else that
// of the earlier candidate. Where one claimant does not hear the other, the one that is not heard
// yields. Where neither does, and the segment carries what they announce, see Node.PeerAnnounced.
//
// Health moves an address and never leaves it without an owner: a claim of a node that is
// unhealthy gives way to one of a candidate that is ready, and one that is not ready waits until
// all others had their turn, or, where a newer list gives it what another one has, for a while.
func Decide(now time.Duration, v Input) Decision {
	me := slices.Index(v.Candidates, v.Node)
	switch {
	case me < 0 || !v.Able:
		return Decision{}
	case v.Own.IsZero() || v.handedToStranger(me):
		return v.decideBackup(now, me)
	default:
		return v.decideOwner(now, me)
	}
}

// handedToStranger reports whether a newer list puts a node first that was never heard: it may
// not speak this protocol, and takes over when the plan says so.
func (v Input) handedToStranger(me int) bool {
	return me > 0 && v.Version.Compare(v.Own) > 0 && v.peerNamed(v.Candidates[0]).State == Unknown
}

// decideOwner decides about an address that the node claims.
func (v Input) decideOwner(now time.Duration, me int) Decision {
	decision := Decision{Claim: v.Own}
	if v.Version.Compare(v.Own) > 0 && v.allDown(v.Candidates[:me]) {
		decision.Claim = v.Version
	}
	for _, o := range v.Peers {
		switch unheard := o.State != Up && o.YieldAt != 0; {
		case unheard && now >= o.YieldAt:
			return Decision{}
		case unheard && o.YieldAt != never:
			decision.Again = earlierTime(decision.Again, o.YieldAt)
		}
		if o.State != Up || o.Claim.IsZero() || !o.Known {
			continue
		}
		switch order := decision.Claim.Compare(o.Claim); {
		case order < 0:
			return Decision{}
		case !o.Hears && now >= o.Grace:
			return Decision{}
		case !o.Hears:
			decision.Again = earlierTime(decision.Again, o.Grace)
		case order == 0 && v.Unhealthy != o.Unhealthy:
			if v.Unhealthy {
				return Decision{}
			}
		case order == 0 && v.losesTie(me, o):
			return Decision{}
		}
	}
	return decision
}

// losesTie says which of two equal claims, of nodes that hear each other, ends.
func (v Input) losesTie(me int, o Peer) bool {
	mine, its := uint64(o.Heard), uint64(o.HeardByOther)
	switch {
	case o.Mine.Alone && o.Its.Company:
		return true
	case o.Its.Alone && o.Mine.Company:
		return false
	case weight*mine < its:
		return true
	case weight*its < mine:
		return false
	}
	at := slices.Index(v.Candidates, o.Node)
	return at >= 0 && at < me
}

// lapseTime is how long the leader has to learn that a node which its list names first has given the
// address up, and to make a list that follows. What it still wants then is done.
const lapseTime = 5 * time.Second

// decideBackup decides about an address that the node does not claim.
func (v Input) decideBackup(now time.Duration, me int) Decision {
	for _, o := range v.Peers {
		if o.State != Up || o.Claim.IsZero() || v.relievesPeer(o) {
			continue
		}
		if !v.supersedesClaim(me, o) {
			return Decision{}
		}
		if now < v.Lapse {
			return Decision{Again: v.Lapse}
		}
		if due := v.Since + Overdue; !v.Ready && now < due {
			return Decision{Again: due}
		}
	}
	begin := max(v.Since, v.Waited)
	ready, asked, wait := begin, !v.Unconfirmed && !v.Unsent, time.Duration(0)
	if v.relievedPeer() {
		wait = skew
	}
	for at, candidate := range v.Candidates {
		if at == me {
			continue
		}
		o := v.peerNamed(candidate)
		if o.State == Up && !o.Known {
			return Decision{} // What it claims is on its way.
		}
		if !v.Ready && o.State == Up && at > me {
			wait += skew // Later candidates have their turn first.
		}
		asked = asked && o.YieldAt == 0
		switch {
		case o.State == Unknown && (v.Restarted || at < me):
			asked = false
		case at > me:
		case o.State == Up:
			// Each candidate that is up gets a turn before the next one.
			wait += skew
			ready = max(ready, o.Since)
		case o.State == Down:
			ready = max(ready, o.Since)
		}
		if v.Unsent && o.State == Down {
			begin = max(begin, o.Grace) // Until then one that lives may not know that it may answer.
		}
	}
	if !v.Ready {
		wait += time.Duration(1+me) * skew // Others may not be ready either.
	}
	if wait > 0 {
		ready += wait
	} else {
		ready = 0
	}
	if !asked && v.Restarted {
		ready = max(ready, v.Listen)
	}
	if asked {
		return v.claimFrom(now, ready)
	}
	// Candidates later in the list ask later, so that they hear the earlier ones.
	if ask := begin + askTurn(me); now < ask {
		return Decision{Again: ask}
	}
	if v.Probe != Silent {
		return Decision{Probe: v.Probe == Unasked}
	}
	return v.claimFrom(now, ready)
}

// askTurn is for how long a candidate, by its place in the list, lets others ask the segment
// first.
func askTurn(place int) time.Duration { return time.Duration(place) * skew }

// claimFrom claims once ready has come.
func (v Input) claimFrom(now, ready time.Duration) Decision {
	if now < ready {
		return Decision{Again: ready}
	}
	return Decision{Claim: v.Version}
}

// supersedesClaim reports whether the node may claim the address though o does: the plan has moved
// it, and o will hear that.
func (v Input) supersedesClaim(me int, o Peer) bool {
	return me == 0 && v.Version.Compare(o.Claim) > 0 && o.Hears
}

// relievesPeer reports whether the node may claim the address though o does: o is unhealthy, and will
// hear that.
func (v Input) relievesPeer(o Peer) bool {
	return v.Ready && o.Unhealthy && v.Version.Compare(o.Claim) >= 0 && o.Hears
}

// relievedPeer reports whether there is an unhealthy node that does not hear this one and claims nothing
// now. If it ended a claim it did so for another node. The claim of that node is on its way, and this
// node must not forestall it: the unhealthy one would take the address from this node again, and so on.
func (v Input) relievedPeer() bool {
	return slices.ContainsFunc(v.Peers, func(o Peer) bool {
		return o.State == Up && o.Unhealthy && !o.Hears && o.Claim.IsZero()
	})
}

func (v Input) allDown(candidates []string) bool {
	return !slices.ContainsFunc(candidates, func(c string) bool { return v.peerNamed(c).State != Down })
}

// hasCurrentClaim reports whether this node or a peer claims the address under the very list, or a
// newer one.
func (v Input) hasCurrentClaim() bool {
	return v.Own == v.Version || slices.ContainsFunc(v.Peers, func(o Peer) bool {
		return o.State == Up && o.Claim.Compare(v.Version) >= 0
	})
}

// peerNamed returns what is known of node, which is nothing for a node that is not among Peers.
func (v Input) peerNamed(node string) Peer {
	i := slices.IndexFunc(v.Peers, func(o Peer) bool { return o.Node == node })
	if i < 0 {
		return Peer{Node: node}
	}
	return v.Peers[i]
}

// earlierTime returns the earlier of two times, of which a zero one means never.
func earlierTime(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return cmp.Or(a, b)
	}
	return min(a, b)
}
