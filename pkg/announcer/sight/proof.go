package sight

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// A claim counts where a leader allows it, because others keep out of its way. That a peer
// may claim an address under the node's own list, or an older one, the node knows from its own
// plan. Everything else, such as a newer list that has not come yet, takes a proof that no peer can
// make; see announcement.Proof. So one that lies about lists takes nothing from others.

// proofs checks what peers claim.
type proofs struct {
	key announcement.Key
	// provers are of key and of the one before: peers may not know yet that it changed. Without
	// any every claim counts.
	provers []*announcement.Prover
}

// setProofKey has proofs checked by key. Peers are asked again for what they claimed until now:
// proofs that came with that may have been made with this one.
func (c *Core) setProofKey(key announcement.Key) {
	if key == c.proofs.key {
		return
	}
	before := c.proofs.provers
	c.proofs = proofs{key: key}
	if key == (announcement.Key{}) {
		return
	}
	c.proofs.provers = append([]*announcement.Prover{announcement.NewProver(key)}, before[:min(1, len(before))]...)
	for _, p := range c.sorted {
		c.disown(p)
	}
	c.all = true
}

// allows reports whether by the list itself a node may claim its address under stamp.
func (l List) allows(node string, stamp announcement.Stamp) bool {
	return stamp.Compare(l.Stamp) <= 0 && slices.Contains(l.Candidates, node)
}

// counted returns the stamp of p's claim to address, or zero if there is none that counts.
func (c *Core) counted(p *peer, address netip.Addr) announcement.Stamp {
	return c.countedAs(p, address, p.claims.of(address))
}

// countedAs is as counted, of a claim under stamp.
func (c *Core) countedAs(p *peer, address netip.Addr, stamp announcement.Stamp) announcement.Stamp {
	if stamp.IsZero() || len(c.proofs.provers) == 0 || p.proved[address] == stamp {
		return stamp
	}
	if e := c.lists[address]; e != nil && e.allows(p.name, stamp) {
		return stamp
	}
	return announcement.Stamp{}
}

// prove takes the proof that came with a claim of p.
func (c *Core) prove(p *peer, claim announcement.Claim, proof announcement.Proof) {
	if claim.Stamp.IsZero() || p.proved[claim.Address] == claim.Stamp {
		return
	}
	delete(p.proved, claim.Address)
	if e := c.lists[claim.Address]; proof == (announcement.Proof{}) || e != nil && e.allows(p.name, claim.Stamp) {
		return
	}
	for _, prover := range c.proofs.provers {
		if prover.Proves(proof, p.name, claim.Address, claim.Stamp) {
			p.count(claim)
			c.dirty.AddUrgent(claim.Address)
			return
		}
	}
}

// count has a claim count whatever list the node has.
func (p *peer) count(claim announcement.Claim) {
	if p.proved == nil {
		p.proved = map[netip.Addr]announcement.Stamp{}
	}
	p.proved[claim.Address] = claim.Stamp
}

// keepCounting has those claims to an address count on that counted by its list e, which ends.
func (c *Core) keepCounting(e *entry) {
	if len(c.proofs.provers) == 0 {
		return
	}
	for _, p := range c.claimants[e.Address] {
		if stamp := p.claims.of(e.Address); e.allows(p.name, stamp) {
			p.count(announcement.Claim{Address: e.Address, Stamp: stamp})
		}
	}
}

// keepProofs keeps the list under which the node claims the address now that another one comes.
func (e *entry) keepProofs(claim announcement.Stamp) {
	switch {
	case !claim.IsZero() && claim == e.Stamp:
		list := e.List
		e.old = &list
	case e.old != nil && e.old.Stamp != claim:
		e.old = nil
	}
}

// withProofs returns part with the proofs of its claims for p.
func (c *Core) withProofs(p *peer, part *Part) *Part {
	if part == nil || len(part.Claims) == 0 || len(c.proofs.provers) == 0 {
		return part
	}
	var out []announcement.Proof
	for i, claim := range part.Claims {
		proof := c.proof(claim, p.name)
		if proof == (announcement.Proof{}) {
			continue
		}
		if out == nil {
			out = make([]announcement.Proof, 0, len(part.Claims))
		}
		out = append(out[:i], proof) // The capacity is there, and has zeros.
	}
	if out == nil {
		return part
	}
	proven := *part
	proven.Proofs = out
	return &proven
}

// proof returns the proof of the node's own claim for checker.
func (c *Core) proof(claim announcement.Claim, checker string) announcement.Proof {
	e := c.lists[claim.Address]
	switch {
	case e == nil || claim.Stamp.IsZero():
		return announcement.Proof{}
	case e.Stamp == claim.Stamp:
		return e.proof(c.node, checker)
	case e.old != nil && e.old.Stamp == claim.Stamp:
		return e.old.proof(c.node, checker)
	}
	return announcement.Proof{}
}

func (l *List) proof(node, checker string) announcement.Proof {
	a := announcement.Announcement{Candidates: l.Candidates, Former: l.Former, Proofs: l.Proofs}
	return a.Proof(node, checker)
}
