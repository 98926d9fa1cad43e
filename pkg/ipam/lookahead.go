package ipam

import (
	"net/netip"
	"slices"
	"time"
)

// looks is how many addresses Lookahead looks at for each that it may return: where a pool
// is nearly full it returns fewer rather than go through all of it.
const looks = 16

// Lookahead returns up to n addresses of a family that the pool will give out next, in the
// order in which it will as far as that is known now, and after them those reserved for
// Services that do not hold them, up to n as well. A pool that is disabled gives out nothing.
func (a *Allocator) Lookahead(name string, f Family, n int) []netip.Addr {
	i := slices.IndexFunc(a.pools, func(p *pool) bool { return p.Name == name })
	if i < 0 || a.pools[i].Disabled || a.pools[i].spaces[f] == nil {
		return nil
	}
	p := a.pools[i]
	space, judge := p.spaces[f], a.freeFilter(p)
	var next []netip.Addr
	if _, any := space.nextFree(time.Time{}, judge); any { // It goes past what is taken once and for all.
		next = space.lookahead(n, judge)
	}
	return append(next, a.reservedUnheld(p, f, n)...)
}

// reservedUnheld returns up to n addresses of p that are reserved and not held, sorted.
func (a *Allocator) reservedUnheld(p *pool, f Family, n int) []netip.Addr {
	var out []netip.Addr
	for address := range a.reserved {
		if FamilyOf(address) == f && a.poolOf(address) == p && len(a.holders[address]) == 0 && !a.isBlocked(address) {
			out = append(out, address)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out[:min(n, len(out))]
}

// lookahead returns up to n addresses in the order in which peek would return them, if each
// was taken and none was freed meanwhile.
func (s *freelist) lookahead(n int, judge func(netip.Addr) verdict) []netip.Addr {
	var out []netip.Addr
	left := n * looks
	wanted := func(a netip.Addr) bool {
		left--
		if judge(a) == usable {
			out = append(out, a)
		}
		return len(out) < n && left > 0
	}
	if s.freed.Len() < remembered {
		s.unusedAddresses(wanted)
	}
	for e := s.freed.Front(); e != nil && len(out) < n && left > 0; e = e.Next() {
		wanted(e.Value.(freedAddr).address)
	}
	return out
}

// unusedAddresses yields the addresses never used, in order.
func (s *freelist) unusedAddresses(yield func(netip.Addr) bool) {
	ahead := freelist{ranges: s.ranges, index: s.index, next: s.next}
	for ; ahead.next.IsValid(); ahead.advanceNext() {
		if _, known := s.where[ahead.next]; known {
			continue
		}
		if !yield(ahead.next) {
			return
		}
	}
}
