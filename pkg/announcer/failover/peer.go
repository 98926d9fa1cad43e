package failover

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/internal/addressqueue"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// peer is what a node knows of another one.
type peer struct {
	name  string
	state State
	since time.Duration
	// heard is when a packet counted last, and detect for how long that is enough.
	heard, detect time.Duration
	// newest is the newest packet that counted.
	newest Echo
	// unproven is the newest packet of another life, which counts once it echoes one
	// that this node numbered above mark.
	unproven      Echo
	mark          uint64
	bidirectional bidirectional
	// hears reports whether the peer hears this node, unhealthy that its claims give way.
	hears, unhealthy bool
	// claims are the peer's as far as it told, digest that of what they are.
	claims claims
	digest Digest
	// proved are the claims that count because a leader's proof came with them; see counted.
	proved map[netip.Addr]plan.Version
	more   bool // A part is still to come.
	// claimWait is for how long this node still waits to hear what the peer claims.
	claimWait claimWait
	// missed reports whether the peer may have claimed something of which this node never heard.
	missed bool

	// base is how many frames the node had heard from any sender when it lost the peer, and
	// meanwhile how many packets of other peers since it heard the peer. apart weighs both when
	// it hears the peer again, and its is the peer's own such number.
	base, meanwhile uint64
	rebase          bool // base is taken from what is heard next.
	apart, its      uint32

	// urgent is a packet, whole one with all claims, that does not wait for its turn. lost
	// is one with all claims to a peer that has just fallen silent: it may hear this node, and
	// must know at once what is claimed in its place.
	urgent, whole, lost bool
	// told is when one went to the peer, and rounds how many while it was not up.
	told   time.Duration
	rounds int
	// unechoed is the first packet to the peer since the last one that it echoed, and since when.
	unechoed struct {
		seq   uint64
		since time.Duration
	}
}

func (c *Node) newPeer(name string, now time.Duration) *peer {
	return &peer{name: name, since: now, mark: c.seq, rebase: true, missed: true}
}

// claimsKnown reports whether all claims of the peer are known as they are.
func (p *peer) claimsKnown() bool { return p.claims.digest == p.digest }

// isLate reports whether a packet of the peer is due, or one that echoes what went to it.
func (p *peer) isLate(now, interval time.Duration) bool {
	return p.state != Up || now > p.heard+interval*3/2 || p.unechoed.seq != 0 && now > p.unechoed.since+interval*3/2
}

// resetPeer makes the peer one that was never heard.
func (p *peer) resetPeer(now time.Duration) {
	p.rebase, p.missed = p.rebase || p.state == Up, true
	p.state, p.since = Unknown, now
	p.claimWait.stopWait(p.heard)
	p.bidirectional.setBidirectional(now, false)
}

// asPeer returns what bears on an address to which the peer has claim.
func (p *peer) asPeer(claim plan.Version, interval time.Duration) Peer {
	return Peer{
		Node: p.name, State: p.state, Since: p.since, Hears: p.hears, Grace: p.since + 2*interval,
		Known: p.claimsKnown() || p.claimWait.over, Claim: claim, Unhealthy: p.unhealthy, Mine: p.bidirectional.mine, Its: p.bidirectional.its, Heard: p.apart, HeardByOther: p.its,
	}
}

// Receive takes a packet that Keyring.Open has returned. The error says why it did not
// count, which is no fault where it is ErrUnproven.
func (c *Node) Receive(now time.Duration, packet Packet) error {
	p := c.peers[packet.From]
	if p == nil {
		return ErrStranger
	}
	if packet.Incarnation != p.newest.Incarnation {
		if !c.provesLife(p, packet) {
			p.urgent = true
			return ErrUnproven
		}
		c.startIncarnation(now, p)
	} else if packet.Seq <= p.newest.Seq {
		return ErrReplayed
	}
	p.newest = Echo{packet.Incarnation, packet.Seq}
	if packet.Leave {
		c.markDown(now, p)
		c.forgetClaims(p)
		// It has had its last word. That its next life claims something before it is heard is
		// so rare, and a planned restart of each node in turn so common, that addresses are not
		// announced again for it.
		p.digest, p.missed = 0, false
		return nil
	}
	c.acceptPacket(now, p, packet)
	return nil
}

// provesLife says whether a packet of another life than the one known is shown to be no
// recording: it echoes what was sent since that life was first heard of, or, of a peer
// not met yet, since this node's own began.
func (c *Node) provesLife(p *peer, packet Packet) bool {
	if packet.Incarnation != p.unproven.Incarnation {
		p.unproven = Echo{Incarnation: packet.Incarnation}
		if p.newest.Incarnation != 0 {
			p.mark = c.seq
		}
	}
	p.unproven.Seq = max(p.unproven.Seq, packet.Seq)
	for _, echo := range []Echo{packet.Heard, packet.Unproven} {
		if echo.Incarnation == c.incarnation && echo.Seq > p.mark && echo.Seq <= c.seq {
			return true
		}
	}
	return false
}

// startIncarnation begins another life of p, of which nothing is known.
func (c *Node) startIncarnation(now time.Duration, p *peer) {
	c.endClaims(now, p)
	p.unproven, p.hears, p.more, p.unhealthy = Echo{}, false, false, false
	c.forgetClaims(p)
	if p.state == Up {
		p.resetPeer(now)
	}
	c.all = true
}

// acceptPacket takes a packet of a life of p that is known.
func (c *Node) acceptPacket(now time.Duration, p *peer, packet Packet) {
	if now > c.heard+2*c.interval {
		c.silence.from, c.silence.until = c.heard, now
	}
	c.heard = now
	if p.state != Up || now > p.heard+2*c.interval {
		p.apart = c.countSince(now, p)
		c.markClaimsDirty(p)
	}
	if p.its != packet.Apart {
		// Where it was heard all the time it did not hear this node for a while, else see lose.
		p.its, p.missed = packet.Apart, p.missed || p.state == Up
		c.markClaimsDirty(p)
	}
	if p.state != Up {
		p.state, p.since = Up, now
		p.urgent, p.whole, c.all = true, true, true
	}
	p.heard, p.detect, p.meanwhile = now, packet.Detect, 0
	if packet.Heard.Incarnation == c.incarnation && packet.Heard.Seq >= p.unechoed.seq {
		p.unechoed.seq = 0
	}
	for _, other := range c.sorted {
		if now > other.heard+c.interval {
			other.meanwhile++
		}
	}
	if hears := packet.Hears && packet.Heard.Incarnation == c.incarnation; hears != p.hears {
		p.hears, c.all = hears, c.all || p.unhealthy
		c.markClaimsDirty(p)
	}
	p.bidirectional.setBidirectional(now, p.hears)
	if p.bidirectional.its != packet.Standing {
		p.bidirectional.its = packet.Standing
		c.markClaimsDirty(p)
	}
	if packet.Unhealthy != p.unhealthy {
		p.unhealthy = packet.Unhealthy
		c.endClaims(now, p) // Each of the others has its turn from now on.
	}
	wasKnown := p.claimsKnown()
	p.digest = packet.Digest
	if packet.Part != nil {
		c.acceptClaims(now, p, packet.Part)
	}
	if p.claimsKnown() {
		p.claimWait.stopWait(now)
	}
	// One that goes on speaking and does not tell is waited for no more. One that is silent may
	// have told it unheard.
	if p.claimsKnown() && !wasKnown || !p.claimsKnown() && p.claimWait.startWait(now) {
		c.stopWaiting(now)
	}
	p.missed = p.missed || !p.hears
	if p.missed && p.claimsKnown() && p.hears {
		c.onBidirectional(p)
	}
	p.more = packet.Part != nil && packet.Part.More
	if packet.Want {
		p.whole = true
	}
	if !p.claimsKnown() && !p.more {
		p.urgent = true
	}
}

// stopWaiting marks the addresses dirty that wait for what some peer claims. A wait as long as a
// turn may have outlasted the turns of several.
func (c *Node) stopWaiting(now time.Duration) {
	for address, since := range c.waiting {
		if e := c.lists[address]; e != nil && now >= since+skew {
			e.waited = now
		}
	}
	addressqueue.AddKeys(&c.dirty, c.waiting)
	c.waiting = map[netip.Addr]time.Duration{}
}

// markClaimsDirty marks the addresses that p claims dirty.
func (c *Node) markClaimsDirty(p *peer) {
	for claim := range p.claims.held.All() {
		c.dirty.Add(claim.Address)
	}
}

// onBidirectional notes that the node announces again its addresses that p does not claim, now
// that the two hear each other. A peer that hears this node first yields before it is heard, and
// this node never learns what that peer claimed.
func (c *Node) onBidirectional(p *peer) {
	p.missed = false
	for claim := range c.claims.held.All() {
		if p.claims.versionOf(claim.Address).IsZero() {
			c.reannounce(claim.Address)
		}
	}
}

// acceptClaims takes a part of p's claims.
func (c *Node) acceptClaims(now time.Duration, p *peer, part *Part) {
	for i, claim := range part.Claims {
		if claim.Version.IsZero() {
			c.reannounce(claim.Address) // Also where word of the claim itself was lost.
		}
		c.acceptProof(p, claim, part.proofAt(i))
	}
	before := p.claims
	for _, address := range p.claims.applyPart(part) {
		if c.claims.versionOf(address).IsZero() {
			c.dirty.Add(address)
		} else {
			c.dirty.AddUrgent(address)
		}
		if p.claims.versionOf(address).IsZero() {
			c.removeClaimant(address, p)
			if e := c.lists[address]; e != nil && !c.countedAs(p, address, before.versionOf(address)).IsZero() {
				e.since = now
			}
			delete(p.proved, address)
		} else if !slices.Contains(c.claimants[address], p) {
			c.claimants[address] = append(c.claimants[address], p)
		}
	}
}

// removeClaimant takes p out of the claimants of address.
func (c *Node) removeClaimant(address netip.Addr, p *peer) {
	left := slices.DeleteFunc(c.claimants[address], func(other *peer) bool { return other == p })
	if len(left) == 0 {
		delete(c.claimants, address)
	} else {
		c.claimants[address] = left
	}
	c.reannounce(address)
}

// forgetClaims forgets what p claims.
func (c *Node) forgetClaims(p *peer) {
	for claim := range p.claims.held.All() {
		c.removeClaimant(claim.Address, p)
	}
	p.claims, p.proved = claims{}, nil
}

// endClaims notes that p's claims no longer count. Those that never did give no candidate another
// turn: otherwise a node that lies would keep every candidate from ever beginning.
func (c *Node) endClaims(now time.Duration, p *peer) {
	c.all = true
	for claim := range p.claims.held.All() {
		if e := c.lists[claim.Address]; e != nil && !c.countedClaim(p, claim.Address).IsZero() {
			e.since = now
		}
	}
}

// markDown makes p one that is down.
func (c *Node) markDown(now time.Duration, p *peer) {
	p.rebase = p.rebase || p.state == Up
	p.state, p.since, p.hears, p.missed = Down, now, false, true
	p.claimWait.stopWait(p.heard)
	p.bidirectional.setBidirectional(now, false)
	c.endClaims(now, p)
	for claim := range p.claims.held.All() {
		c.reannounce(claim.Address)
	}
}

// expirePeers marks the peers down that were silent for too long, and finds out which nodes keep
// each other company.
func (c *Node) expirePeers(now time.Duration) {
	for _, p := range c.sorted {
		if p.state == Up && now >= p.heard+p.detect {
			c.markDown(now, p)
			p.lost = true
		}
	}
	c.updateStandings(now)
}

// Outgoing is a packet and the peer that it is for.
type Outgoing struct {
	To     string
	Packet Packet
	// Silent reports whether the receiver is not heard.
	Silent bool
	// Late reports whether no packet of the receiver came when one was due, or none that echoes what
	// it should have got by then: it may be elsewhere now.
	Late bool
}

// Flush returns what to send now: to all peers when it is time or claims have changed, and
// what answers a peer.
func (c *Node) Flush(now time.Duration) []Outgoing {
	f := flush{now: now, round: len(c.peers) > 0 && now >= c.next || c.leaving, node: c}
	if f.round {
		c.round, c.next = now, now+c.interval
		c.rounds++
	}
	if len(c.changed) > 0 {
		f.changes = c.claims.changedParts(c.changed)
		c.changed = map[netip.Addr]bool{}
	}
	var out []Outgoing
	for _, p := range c.sorted {
		parts := f.partsFor(p)
		if out == nil && len(parts) > 0 {
			out = make([]Outgoing, 0, len(parts)*len(c.sorted)) // Mostly it is the same to all.
		}
		for _, part := range parts {
			packet := c.nextPacket(p, part)
			if p.unechoed.seq == 0 {
				p.unechoed.seq, p.unechoed.since = c.seq, now
			}
			out = append(out, Outgoing{p.name, packet, p.state != Up, p.isLate(now, c.interval)})
			p.told = now
		}
	}
	return out
}

// bare are the parts of a packet without one.
var bare = []*Part{nil}

// flush is one call of Flush.
type flush struct {
	now     time.Duration
	round   bool
	node    *Node
	changes []*Part
	all     []*Part
}

// allParts returns all claims in parts.
func (f *flush) allParts() []*Part {
	if f.all == nil {
		f.all = f.node.claims.allParts()
	}
	return f.all
}

// partsFor returns what goes to p now; a nil Part is a packet without one.
func (f *flush) partsFor(p *peer) []*Part {
	due := f.now >= p.told+hurry
	switch {
	case f.node.leaving:
		return bare
	case p.lost && p.state == Down:
		p.lost, p.urgent = false, false
		return f.allParts()
	case p.whole && due && p.state == Up:
		p.whole, p.urgent = false, false
		return f.allParts()
	case len(f.changes) > 0:
		p.urgent = false
		return f.changes
	case f.round && p.state != Up && p.newest.Incarnation|p.unproven.Incarnation != 0:
		// It may hear this node without being heard, and then cannot ask.
		p.rounds++
		part := f.node.claims.partAt(p.rounds % f.node.claims.partCount())
		part.More = false
		return []*Part{part}
	case f.round, p.urgent && due:
		p.urgent = false
		return bare
	}
	return nil
}

// nextPacket returns the next packet to p.
func (c *Node) nextPacket(p *peer, part *Part) Packet {
	c.seq++
	apart := p.apart
	if p.state != Up {
		apart = c.countSince(c.round, p)
	}
	return Packet{
		From: c.name, Incarnation: c.incarnation, Seq: c.seq, Heard: p.newest, Unproven: p.unproven,
		Hears: p.state == Up, Leave: c.leaving, Unhealthy: c.unhealthy, Want: p.state == Up && !p.claimsKnown() && !p.more,
		Standing: p.bidirectional.mine, Detect: c.detect, Apart: apart, Digest: c.claims.digest, Part: c.withProofs(p, part),
	}
}

// countSince returns how much was heard since p was. Packets of other peers count for more than
// frames of whomever: a switch may send those to a node that it has cut off.
func (c *Node) countSince(now time.Duration, p *peer) uint32 {
	var heard uint64
	if p.state != Up && !p.rebase {
		heard = c.frames - p.base
	}
	// Peers that are heard again at the same time as p were no company meanwhile.
	if alone := c.silence.from <= p.heard+c.interval && now <= c.silence.until+c.interval; !alone {
		heard += companyWeight * p.meanwhile
	}
	return uint32(min(heard, math.MaxUint32))
}
