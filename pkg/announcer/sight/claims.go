package sight

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// Digest tells sets of claims apart. It does not depend on their order and is changed by
// one claim at a time. Packets are authenticated, so that nobody can choose claims to
// collide who could not lie anyway.
type Digest uint64

// toggle puts a claim in, or takes it out.
func (d *Digest) toggle(c announcement.Claim) {
	h := fnv.New64a()
	a := c.Address.As16()
	_, _ = h.Write(a[:]) // Never fails.
	_, _ = h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, c.Stamp.Term), c.Stamp.Revision))
	// The sums of FNV of similar texts are similar; this spreads them (splitmix64).
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	*d ^= Digest(x ^ x>>31)
}

// claims are those of one node.
type claims struct {
	stamps map[netip.Addr]announcement.Stamp
	digest Digest
}

func newClaims() claims { return claims{stamps: map[netip.Addr]announcement.Stamp{}} }

// set puts stamp on the claim to address, of which a zero one ends it, and reports whether
// that changed anything.
func (c *claims) set(address netip.Addr, stamp announcement.Stamp) bool {
	held := c.stamps[address]
	if held == stamp {
		return false
	}
	if !held.IsZero() {
		c.digest.toggle(announcement.Claim{Address: address, Stamp: held})
		delete(c.stamps, address)
	}
	if !stamp.IsZero() {
		c.digest.toggle(announcement.Claim{Address: address, Stamp: stamp})
		c.stamps[address] = stamp
	}
	return true
}

// sorted returns the claims in order.
func (c *claims) sorted() []announcement.Claim {
	out := make([]announcement.Claim, 0, len(c.stamps))
	for address, stamp := range c.stamps {
		out = append(out, announcement.Claim{Address: address, Stamp: stamp})
	}
	sortClaims(out)
	return out
}

func sortClaims(list []announcement.Claim) {
	slices.SortFunc(list, func(a, b announcement.Claim) int { return a.Address.Compare(b.Address) })
}

// whole returns all claims in parts.
func (c *claims) whole() []*Part {
	return split(c.sorted(), true)
}

// changes returns what became of addresses in parts.
func (c *claims) changes(addresses map[netip.Addr]bool) []*Part {
	list := make([]announcement.Claim, 0, len(addresses))
	for address := range maps.Keys(addresses) {
		list = append(list, announcement.Claim{Address: address, Stamp: c.stamps[address]})
	}
	sortClaims(list)
	return split(list, false)
}

// split makes parts of a sorted list. With ranges they cover all addresses there are, and
// there is one even if the list is empty.
func split(list []announcement.Claim, ranges bool) []*Part {
	var parts []*Part
	for chunk := range slices.Chunk(list, maxClaims) {
		parts = append(parts, &Part{Range: ranges, More: true, Claims: chunk})
	}
	if len(parts) == 0 && ranges {
		parts = []*Part{{Range: true}}
	}
	for i, p := range parts {
		if ranges && i > 0 {
			p.From = p.Claims[0].Address
			parts[i-1].Before = p.From
		}
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
	for address := range c.stamps {
		if !said[address] && p.contains(address) {
			changed = append(changed, address)
		}
	}
	for _, address := range changed {
		if !said[address] {
			c.set(address, announcement.Stamp{})
		}
	}
	return changed
}
