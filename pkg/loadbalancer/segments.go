package loadbalancer

import (
	"maps"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Where l2.interface is empty a node without a route to an address's segment answers on its
// default route. That is right where the address has no segment, and heard on the wrong one
// where other nodes have a route to it.

// segmentWitnesses is how many nodes have to report that they are on a segment before others may not
// answer there: one node's word excludes no other, and only has new addresses go to that node.
const segmentWitnesses = 2

// segments are the prefixes that nodes have on-link.
type segments struct {
	// of are the prefixes by node, and nodes how many have one.
	of    map[string][]netip.Prefix
	nodes map[netip.Prefix]int
	// confirmed are those that so many nodes had as it takes, until none has it.
	confirmed map[netip.Prefix]bool
	// lengths are how many prefixes of that length and family there are.
	lengths map[segmentLength]int
}

type segmentLength struct {
	ipv4 bool
	bits int
}

func newSegments() segments {
	return segments{of: map[string][]netip.Prefix{}, nodes: map[netip.Prefix]int{}, confirmed: map[netip.Prefix]bool{}, lengths: map[segmentLength]int{}}
}

// setPrefixes makes prefixes those of node, and returns the ones for which that may be of consequence
// to other nodes.
func (s *segments) setPrefixes(node string, prefixes []netip.Prefix) []netip.Prefix {
	var changed []netip.Prefix
	before := s.of[node]
	for _, p := range before {
		if !slices.Contains(prefixes, p) {
			changed = append(changed, s.countPrefix(p, -1)...)
		}
	}
	for _, p := range prefixes {
		if !slices.Contains(before, p) {
			changed = append(changed, s.countPrefix(p, 1)...)
		}
	}
	if s.of[node] = prefixes; len(prefixes) == 0 {
		delete(s.of, node)
	}
	return changed
}

// countPrefix returns p if the number of its nodes is another one that matters.
func (s *segments) countPrefix(p netip.Prefix, by int) []netip.Prefix {
	before := s.nodes[p]
	s.nodes[p] = before + by
	length := segmentLength{p.Addr().Is4(), p.Bits()}
	was := s.confirmed[p]
	switch {
	case before == 0:
		s.lengths[length]++
	case before+by == 0:
		delete(s.nodes, p)
		delete(s.confirmed, p)
		if s.lengths[length]--; s.lengths[length] == 0 {
			delete(s.lengths, length)
		}
	case before+by >= segmentWitnesses:
		s.confirmed[p] = true
	}
	if was && s.confirmed[p] {
		return nil
	}
	return []netip.Prefix{p}
}

// hasSegment reports whether address is on a segment that is known of, and whether enough nodes say so.
func (s *segments) hasSegment(address netip.Addr) (known, confirmed bool) {
	for length := range s.lengths {
		if length.ipv4 != address.Is4() {
			continue
		}
		if p, err := address.Prefix(length.bits); err == nil {
			known, confirmed = known || s.nodes[p] > 0, confirmed || s.confirmed[p]
		}
	}
	return known, confirmed
}

// onLink takes what a node has on-link, and marks the addresses dirty for which that makes
// a difference to others.
func (b *Balancer) onLink(node string) {
	var prefixes []netip.Prefix
	if _, exists := b.nodes[node]; exists && b.announcer[node] != nil {
		seen := map[netip.Prefix]bool{}
		for _, i := range b.announcer[node].interfaces {
			for _, p := range i.Segments() {
				seen[p] = true
			}
		}
		prefixes = slices.SortedFunc(maps.Keys(seen), plan.ComparePrefixes)
	}
	changed := b.segments.setPrefixes(node, prefixes)
	if len(changed) == 0 {
		return
	}
	concerns := func(address netip.Addr) bool {
		return slices.ContainsFunc(changed, func(p netip.Prefix) bool { return p.Contains(address) })
	}
	for _, s := range b.services {
		for _, a := range b.addresses.Held(s.Holder.UID) {
			if concerns(a.Address) {
				b.plan.markDirty(a.Address)
			}
		}
	}
}

// offSegment reports whether node would answer for address on its default route although
// others are on the address's segment. A node that was never heard is believed to be there.
func (b *Balancer) offSegment(node string, address netip.Addr) bool {
	if _, confirmed := b.segments.hasSegment(address); !confirmed {
		return false
	}
	known, ok := b.announcer[node]
	return ok && !plan.OnLink(address, known.report.Interfaces)
}

// onSegment returns those of nodes that are on the segment of address, where a pool does not
// say by which interface it is announced, and all where none is.
func (b *Balancer) onSegment(nodes []string, address netip.Addr) []string {
	if known, _ := b.segments.hasSegment(address); !known || b.l2[b.addresses.PoolOf(address)].Interface != "" {
		return nodes
	}
	out := slices.DeleteFunc(slices.Clone(nodes), func(name string) bool {
		known, ok := b.announcer[name]
		return !ok || !plan.OnLink(address, known.report.Interfaces)
	})
	if len(out) == 0 {
		return nodes
	}
	return out
}

// interfaceSelector returns by which interfaces the candidates of an address answer: where a pool does
// not say, and enough nodes are on its segment, nowhere but there.
func (b *Balancer) interfaceSelector(l2 L2, address netip.Addr) string {
	if _, confirmed := b.segments.hasSegment(address); confirmed && l2.Interface == "" {
		return plan.OnLinkOnly
	}
	return l2.Interface
}
