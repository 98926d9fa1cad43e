package failover

import (
	"maps"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Digest tells sets of claims apart. It does not depend on their order and is changed by
// one claim at a time. Packets are authenticated: only a node that could lie anyway can choose
// claims that collide.
type Digest uint64

// Toggle puts a claim in, or takes it out.
func (d *Digest) Toggle(c plan.Claim) {
	// FNV-1a of 64 bits over the address as IPv6 has it, and the version's numbers, the high byte
	// first. Package hash/fnv does the same and allocates.
	x := uint64(14695981039346656037)
	add := func(b byte) { x = (x ^ uint64(b)) * 1099511628211 }
	for _, b := range c.Address.As16() {
		add(b)
	}
	for _, n := range [2]uint64{c.Version.Term, c.Version.Revision} {
		for shift := 56; shift >= 0; shift -= 8 {
			add(byte(n >> shift))
		}
	}
	// The sums of FNV of similar texts are similar; this spreads them (splitmix64).
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	*d ^= Digest(x ^ x>>31)
}

// claims are those of one node.
type claims struct {
	held   plan.Index[plan.Claim]
	digest Digest
}

// versionOf returns the version of the claim to address, or zero.
func (c *claims) versionOf(address netip.Addr) plan.Version {
	held, _ := c.held.Find(address)
	return held.Version
}

// setVersion puts version on the claim to address, of which a zero one ends it, and reports whether
// that changed anything.
func (c *claims) setVersion(address netip.Addr, version plan.Version) bool {
	before, after := plan.Claim{Address: address, Version: c.versionOf(address)}, plan.Claim{Address: address, Version: version}
	if before == after {
		return false
	}
	if !before.Version.IsZero() {
		c.digest.Toggle(before)
		c.held = c.held.Without(address)
	}
	if !version.IsZero() {
		c.digest.Toggle(after)
		c.held = c.held.With(after)
	}
	return true
}

// partCount is how many parts make up all claims.
func (c *claims) partCount() int { return max(1, (c.held.Len()+maxClaims-1)/maxClaims) }

// partAt returns one of the parts that make up all claims. Together they cover all addresses
// there are.
func (c *claims) partAt(i int) *Part {
	p := &Part{Range: true, More: i < c.partCount()-1}
	if i > 0 {
		p.From = c.held.Nth(i * maxClaims).Address
	}
	if p.More {
		p.Before = c.held.Nth((i + 1) * maxClaims).Address
	}
	for claim := range c.held.From(p.From) {
		if len(p.Claims) == maxClaims {
			break
		}
		p.Claims = append(p.Claims, claim)
	}
	return p
}

// allParts returns all claims in parts.
func (c *claims) allParts() []*Part {
	out := make([]*Part, c.partCount())
	for i := range out {
		out[i] = c.partAt(i)
	}
	return out
}

// changedParts returns what became of addresses in parts.
func (c *claims) changedParts(addresses map[netip.Addr]bool) []*Part {
	var parts []*Part
	for chunk := range slices.Chunk(slices.SortedFunc(maps.Keys(addresses), netip.Addr.Compare), maxClaims) {
		p := &Part{More: true}
		for _, address := range chunk {
			p.Claims = append(p.Claims, plan.Claim{Address: address, Version: c.versionOf(address)})
		}
		parts = append(parts, p)
	}
	if len(parts) > 0 {
		parts[len(parts)-1].More = false
	}
	return parts
}

// applyPart takes a part of another node's claims and returns the addresses whose claims it
// changed.
func (c *claims) applyPart(p *Part) []netip.Addr {
	var changed []netip.Addr
	said := make(map[netip.Addr]bool, len(p.Claims))
	for _, claim := range p.Claims {
		said[claim.Address] = true
		if c.setVersion(claim.Address, claim.Version) {
			changed = append(changed, claim.Address)
		}
	}
	if !p.Range {
		return changed
	}
	for claim := range c.held.From(p.From) {
		if !p.containsAddress(claim.Address) {
			break
		}
		if !said[claim.Address] {
			changed = append(changed, claim.Address)
		}
	}
	for _, address := range changed {
		if !said[address] {
			c.setVersion(address, plan.Version{})
		}
	}
	return changed
}
