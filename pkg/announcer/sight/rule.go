package sight

import (
	"cmp"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

const (
	// turnTime is how long a candidate that is up and does not claim an address keeps
	// those behind it from claiming it.
	turnTime = 200 * time.Millisecond
	// Overdue is how long the node that a newer list puts first may find that it is not ready
	// before it takes the address all the same: the one that has it is not to have it any more.
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
	// Silent is one that nobody answered for.
	Silent
	// Answered is one that another machine answers for.
	Answered
)

// Other is what a node knows of another one with regard to one address.
type Other struct {
	Node  string
	State State
	// Since is when State began.
	Since time.Duration
	// Hears says that the other one hears this node.
	Hears bool
	// Grace is until when it may not have had time to hear this node, or not to hear it any more.
	Grace time.Duration
	// Known says that the other's claims are known as they are.
	Known bool
	// Claim is the stamp of its claim to the address, or zero if it has none. It counts
	// while the other is up.
	Claim announcement.Stamp
	// Overheard is zero unless it was heard to announce the address though it is not up. It is
	// when this node yields to that: its packets may still come, if the two have only begun to hear
	// each other; after that they are lost, and it answers all the same.
	Overheard time.Duration
	// Unwell says that its claims end when somebody who is well claims instead.
	Unwell bool
	// Mine is how this node stands with others than the other one, and Its how that one says
	// that it stands with others than this node.
	Mine, Its Standing
	// Heard and HeardByOther are how much this node and the other one heard from anybody
	// while they did not hear each other last.
	Heard, HeardByOther uint32
}

// View is all that bears on whether a node claims an address.
type View struct {
	Node       string
	Stamp      announcement.Stamp
	Candidates []string
	// Fit says that the node is able to answer for the address.
	Fit bool
	// Ready says that traffic for the address would be served here. A node that is not
	// takes it only where nobody else does.
	Ready bool
	// Unwell says that the node serves no traffic as it should, and has not for a while: it
	// gives the address to one that does.
	Unwell bool
	// Own is the stamp of the node's present claim, or zero.
	Own announcement.Stamp
	// Since is when the list was taken up, or the last claim of another one that was
	// heard ended, whichever is later.
	Since time.Duration
	// Waited is when the node last learned what a peer claims that it had waited for, or gave
	// that up. All those that waited do so at once, and the order of the list counts from then on.
	Waited time.Duration
	// Cautious says that the node came to the list by a restart, so that others may
	// already answer for the address without having been heard yet.
	Cautious bool
	// Unconfirmed says that the list may be an old one, so that others than its candidates
	// may answer for the address.
	Unconfirmed bool
	// Unsent says that what the node sends to peers does not leave it. What keeps it from speaking
	// may keep them, too, so that they are silent and live.
	Unsent bool
	// Lapse is until when the node leaves the address to a peer that claims it, although a newer list
	// names the node first: it had given the address up under the list before, which named it first,
	// too, and the leader may not have known.
	Lapse time.Duration
	// Listen is until when a cautious node waits for those whom it has not heard.
	Listen time.Duration
	// Probe is what the segment says.
	Probe Probe
	// Others are the other candidates, heard or not, and all who claim the address.
	Others []Other
}

// Verdict is what to do about an address.
type Verdict struct {
	// Claim is the stamp to claim the address under; zero is not to claim it.
	Claim announcement.Stamp
	// Ask says that the segment has to be asked for the address first.
	Ask bool
	// Again is when to decide anew though nothing happened; zero is never.
	Again time.Duration
}

// Decide is the ownership rule. A node claims an address when it is fit and every
// candidate before it is down, or up and has not claimed it for a while; one never heard
// counts as down only if nobody answers when the segment is asked, which it is in any case
// under a list that may be an old one, and by a node that cannot send. Hearing a claim it stays out, unless its list is newer
// and names it first.
//
// Of two claims the newer list's wins. From equal lists one that hears no third node yields to one
// that is in company; if that does not tell, that of the node that was not cut off goes on, else that
// of the earlier candidate. Where one claimant does not hear the other, the one that is not heard
// yields. Where neither does, and the segment carries what they announce, see Core.Overheard.
//
// Health moves an address and never leaves it with nobody: a claim of a node that is unwell
// gives way to one of a candidate that is ready, and one that is not ready waits until all
// others had their turn, or, where a newer list gives it what another one has, for a while.
func Decide(now time.Duration, v View) Verdict {
	me := slices.Index(v.Candidates, v.Node)
	switch {
	case me < 0 || !v.Fit:
		return Verdict{}
	case v.Own.IsZero() || v.handedToStranger(me):
		return v.take(now, me)
	default:
		return v.keep(now, me)
	}
}

// handedToStranger says that a newer list puts a node first that was never heard: it may
// not speak this protocol, and takes over when the plan says so.
func (v View) handedToStranger(me int) bool {
	return me > 0 && v.Stamp.Compare(v.Own) > 0 && v.other(v.Candidates[0]).State == Unknown
}

// keep decides about an address that the node claims.
func (v View) keep(now time.Duration, me int) Verdict {
	verdict := Verdict{Claim: v.Own}
	if v.Stamp.Compare(v.Own) > 0 && v.allDown(v.Candidates[:me]) {
		verdict.Claim = v.Stamp
	}
	for _, o := range v.Others {
		switch unheard := o.State != Up && o.Overheard != 0; {
		case unheard && now >= o.Overheard:
			return Verdict{}
		case unheard && o.Overheard != never:
			verdict.Again = sooner(verdict.Again, o.Overheard)
		}
		if o.State != Up || o.Claim.IsZero() || !o.Known {
			continue
		}
		switch order := verdict.Claim.Compare(o.Claim); {
		case order < 0:
			return Verdict{}
		case !o.Hears && now >= o.Grace:
			return Verdict{}
		case !o.Hears:
			verdict.Again = sooner(verdict.Again, o.Grace)
		case order == 0 && v.Unwell != o.Unwell:
			if v.Unwell {
				return Verdict{}
			}
		case order == 0 && v.loses(me, o):
			return Verdict{}
		}
	}
	return verdict
}

// loses says which of two equal claims, of nodes that hear each other, ends.
func (v View) loses(me int, o Other) bool {
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

// take decides about an address that the node does not claim.
func (v View) take(now time.Duration, me int) Verdict {
	for _, o := range v.Others {
		if o.State != Up || o.Claim.IsZero() || v.relieves(o) {
			continue
		}
		if !v.supersedes(me, o) {
			return Verdict{}
		}
		if now < v.Lapse {
			return Verdict{Again: v.Lapse}
		}
		if due := v.Since + Overdue; !v.Ready && now < due {
			return Verdict{Again: due}
		}
	}
	begin := max(v.Since, v.Waited)
	ready, asked, wait := begin, !v.Unconfirmed && !v.Unsent, time.Duration(0)
	if v.relieved() {
		wait = turnTime
	}
	for at, candidate := range v.Candidates {
		if at == me {
			continue
		}
		o := v.other(candidate)
		if o.State == Up && !o.Known {
			return Verdict{} // What it claims is on its way.
		}
		if !v.Ready && o.State == Up && at > me {
			wait += turnTime // Those who come later have their turn first.
		}
		asked = asked && o.Overheard == 0
		switch {
		case o.State == Unknown && (v.Cautious || at < me):
			asked = false
		case at > me:
		case o.State == Up:
			// Each of those who are up gets a turn before the next one.
			wait += turnTime
			ready = max(ready, o.Since)
		case o.State == Down:
			ready = max(ready, o.Since)
		}
		if v.Unsent && o.State == Down {
			begin = max(begin, o.Grace) // Until then one that lives may not know that it may answer.
		}
	}
	if !v.Ready {
		wait += time.Duration(1+me) * turnTime // Others may not be ready either.
	}
	if wait > 0 {
		ready += wait
	} else {
		ready = 0
	}
	if !asked && v.Cautious {
		ready = max(ready, v.Listen)
	}
	if asked {
		return v.when(now, ready)
	}
	// Those who come later in the list ask later, so that they hear the earlier ones.
	if ask := begin + askTurn(me); now < ask {
		return Verdict{Again: ask}
	}
	if v.Probe != Silent {
		return Verdict{Ask: v.Probe == Unasked}
	}
	return v.when(now, ready)
}

// askTurn is for how long a candidate, by its place in the list, has others ask the segment first.
func askTurn(place int) time.Duration { return time.Duration(place) * turnTime }

// when claims once ready has come.
func (v View) when(now, ready time.Duration) Verdict {
	if now < ready {
		return Verdict{Again: ready}
	}
	return Verdict{Claim: v.Stamp}
}

// supersedes says that the node may claim the address though o does: the plan has moved
// it, and o will hear that.
func (v View) supersedes(me int, o Other) bool {
	return me == 0 && v.Stamp.Compare(o.Claim) > 0 && o.Hears
}

// relieves says that the node may claim the address though o does: o is unwell, and will
// hear that.
func (v View) relieves(o Other) bool {
	return v.Ready && o.Unwell && v.Stamp.Compare(o.Claim) >= 0 && o.Hears
}

// relieved says that there is an unwell node that does not hear this one and claims nothing
// now. If it ended a claim it did so for another one, whose claim is on its way and who is not
// to be forestalled: the unwell one would take the address from this node again, and so on.
func (v View) relieved() bool {
	return slices.ContainsFunc(v.Others, func(o Other) bool {
		return o.State == Up && o.Unwell && !o.Hears && o.Claim.IsZero()
	})
}

func (v View) allDown(candidates []string) bool {
	return !slices.ContainsFunc(candidates, func(c string) bool { return v.other(c).State != Down })
}

// current says that somebody claims the address under the very list, or a newer one.
func (v View) current() bool {
	return v.Own == v.Stamp || slices.ContainsFunc(v.Others, func(o Other) bool {
		return o.State == Up && o.Claim.Compare(v.Stamp) >= 0
	})
}

// other returns what is known of node, which is nothing for one who is not among Others.
func (v View) other(node string) Other {
	i := slices.IndexFunc(v.Others, func(o Other) bool { return o.Node == node })
	if i < 0 {
		return Other{Node: node}
	}
	return v.Others[i]
}

// sooner returns the earlier of two times, of which a zero one means never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return cmp.Or(a, b)
	}
	return min(a, b)
}
