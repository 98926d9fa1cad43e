package sight

import (
	"maps"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// Digest tells sets of claims apart. It does not depend on their order and is changed by
// one claim at a time. Packets are authenticated, so that nobody can choose claims to
// collide who could not lie anyway.
type Digest uint64

// Toggle puts a claim in, or takes it out.
func (d *Digest) Toggle(c announcement.Claim) {
	// FNV-1a of 64 bits over the address as IPv6 has it, and the stamp's numbers, the high byte
	// first. Package hash/fnv does the same and allocates.
	x := uint64(14695981039346656037)
	add := func(b byte) { x = (x ^ uint64(b)) * 1099511628211 }
	for _, b := range c.Address.As16() {
		add(b)
	}
	for _, n := range [2]uint64{c.Stamp.Term, c.Stamp.Revision} {
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
	held   announcement.Index[announcement.Claim]
	digest Digest
}

// of returns the stamp of the claim to address, or zero.
func (c *claims) of(address netip.Addr) announcement.Stamp {
	held, _ := c.held.Find(address)
	return held.Stamp
}

// set puts stamp on the claim to address, of which a zero one ends it, and reports whether
// that changed anything.
func (c *claims) set(address netip.Addr, stamp announcement.Stamp) bool {
	before, after := announcement.Claim{Address: address, Stamp: c.of(address)}, announcement.Claim{Address: address, Stamp: stamp}
	if before == after {
		return false
	}
	if !before.Stamp.IsZero() {
		c.digest.Toggle(before)
		c.held = c.held.Without(address)
	}
	if !stamp.IsZero() {
		c.digest.Toggle(after)
		c.held = c.held.With(after)
	}
	return true
}

// parts is how many parts make up all claims.
func (c *claims) parts() int { return max(1, (c.held.Len()+maxClaims-1)/maxClaims) }

// part returns one of the parts that make up all claims. Together they cover all addresses
// there are.
func (c *claims) part(i int) *Part {
	p := &Part{Range: true, More: i < c.parts()-1}
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

// whole returns all claims in parts.
func (c *claims) whole() []*Part {
	out := make([]*Part, c.parts())
	for i := range out {
		out[i] = c.part(i)
	}
	return out
}

// changes returns what became of addresses in parts.
func (c *claims) changes(addresses map[netip.Addr]bool) []*Part {
	var parts []*Part
	for chunk := range slices.Chunk(slices.SortedFunc(maps.Keys(addresses), netip.Addr.Compare), maxClaims) {
		p := &Part{More: true}
		for _, address := range chunk {
			p.Claims = append(p.Claims, announcement.Claim{Address: address, Stamp: c.of(address)})
		}
		parts = append(parts, p)
	}
	if len(parts) > 0 {
		parts[len(parts)-1].More = false
	}
	return parts
}

// apply takes a part of another node's claims and returns the addresses whose claims it
// changed.
func (c *claims) apply(p *Part) []netip.Addr {
	var changed []netip.Addr
	said := make(map[netip.Addr]bool, len(p.Claims))
	for _, claim := range p.Claims {
		said[claim.Address] = true
		if c.set(claim.Address, claim.Stamp) {
			changed = append(changed, claim.Address)
		}
	}
	if !p.Range {
		return changed
	}
	for claim := range c.held.From(p.From) {
		if !p.contains(claim.Address) {
			break
		}
		if !said[claim.Address] {
			changed = append(changed, claim.Address)
		}
	}
	for _, address := range changed {
		if !said[address] {
			c.set(address, announcement.Stamp{})
		}
	}
	return changed
}
