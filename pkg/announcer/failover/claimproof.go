package failover

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// A claim counts where a leader allows it, because others keep out of its way. That a peer
// may claim an address under the node's own list, or an older one, the node knows from its own
// plan. Everything else, such as a newer list that has not come yet, takes a proof that no peer can
// make; see plan.Proof. So one that lies about lists takes nothing from others.

// proofs checks what peers claim.
type proofs struct {
	key plan.Key
	// provers are of key and of the one before: peers may not know yet that it changed. Without
	// any every claim counts.
	provers []*plan.Prover
}

// setProofKey makes key the one that checks proofs. Peers are asked again for what they claimed
// until now: proofs that came with that may have been made with this one.
func (c *Node) setProofKey(key plan.Key) {
	if key == c.proofs.key {
		return
	}
	before := c.proofs.provers
	c.proofs = proofs{key: key}
	if key == (plan.Key{}) {
		return
	}
	c.proofs.provers = append([]*plan.Prover{plan.NewProver(key)}, before[:min(1, len(before))]...)
	for _, p := range c.sorted {
		c.forgetClaims(p)
	}
	c.all = true
}

// allowsClaim reports whether by the list itself a node may claim its address under version.
func (l List) allowsClaim(node string, version plan.Version) bool {
	return version.Compare(l.Version) <= 0 && slices.Contains(l.Candidates, node)
}

// countedClaim returns the version of p's claim to address, or zero if there is none that counts.
func (c *Node) countedClaim(p *peer, address netip.Addr) plan.Version {
	return c.countedAs(p, address, p.claims.versionOf(address))
}

// countedAs is as counted, of a claim under version.
func (c *Node) countedAs(p *peer, address netip.Addr, version plan.Version) plan.Version {
	if version.IsZero() || len(c.proofs.provers) == 0 || p.proved[address] == version {
		return version
	}
	if e := c.lists[address]; e != nil && e.allowsClaim(p.name, version) {
		return version
	}
	return plan.Version{}
}

// acceptProof takes the proof that came with a claim of p.
func (c *Node) acceptProof(p *peer, claim plan.Claim, proof plan.Proof) {
	if claim.Version.IsZero() || p.proved[claim.Address] == claim.Version {
		return
	}
	delete(p.proved, claim.Address)
	if e := c.lists[claim.Address]; proof == (plan.Proof{}) || e != nil && e.allowsClaim(p.name, claim.Version) {
		return
	}
	for _, prover := range c.proofs.provers {
		if prover.Proves(proof, p.name, claim.Address, claim.Version) {
			p.countClaim(claim)
			c.dirty.AddUrgent(claim.Address)
			return
		}
	}
}

// countClaim makes a claim count whatever list the node has.
func (p *peer) countClaim(claim plan.Claim) {
	if p.proved == nil {
		p.proved = map[netip.Addr]plan.Version{}
	}
	p.proved[claim.Address] = claim.Version
}

// keepCounting has those claims to an address count on that counted by its list e, which ends.
func (c *Node) keepCounting(e *entry) {
	if len(c.proofs.provers) == 0 {
		return
	}
	for _, p := range c.claimants[e.Address] {
		if version := p.claims.versionOf(e.Address); e.allowsClaim(p.name, version) {
			p.countClaim(plan.Claim{Address: e.Address, Version: version})
		}
	}
}

// keepProofs keeps the list under which the node claims the address now that another one comes.
func (e *entry) keepProofs(claim plan.Version) {
	switch {
	case !claim.IsZero() && claim == e.Version:
		list := e.List
		e.old = &list
	case e.old != nil && e.old.Version != claim:
		e.old = nil
	}
}

// withProofs returns part with the proofs of its claims for p.
func (c *Node) withProofs(p *peer, part *Part) *Part {
	if part == nil || len(part.Claims) == 0 || len(c.proofs.provers) == 0 {
		return part
	}
	var out []plan.Proof
	for i, claim := range part.Claims {
		proof := c.proofFor(claim, p.name)
		if proof == (plan.Proof{}) {
			continue
		}
		if out == nil {
			out = make([]plan.Proof, 0, len(part.Claims))
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

// proofFor returns the proof of the node's own claim for checker.
func (c *Node) proofFor(claim plan.Claim, checker string) plan.Proof {
	e := c.lists[claim.Address]
	switch {
	case e == nil || claim.Version.IsZero():
		return plan.Proof{}
	case e.Version == claim.Version:
		return e.proofFor(c.name, checker)
	case e.old != nil && e.old.Version == claim.Version:
		return e.old.proofFor(c.name, checker)
	}
	return plan.Proof{}
}

func (l *List) proofFor(node, checker string) plan.Proof {
	a := plan.Assignment{Candidates: l.Candidates, Former: l.Former, Proofs: l.Proofs}
	return a.Proof(node, checker)
}
