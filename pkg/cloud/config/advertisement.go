package config

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
)

// maxPrepend bounds how often the local AS is repeated: more than some are cut or refused on
// the way.
const maxPrepend = 10

// Advertisement says how the addresses of a pool are announced by BGP.
type Advertisement struct {
	// Advertisement names peers that are in BGP.Peers, all of them where the file names none.
	plan.Advertisement
	// NodeSelector picks the nodes by their labels; nil picks all.
	NodeSelector ipam.Selector
	// AggregationLength and AggregationLengthV6 are the prefix lengths that addresses are
	// announced with. Each such prefix lies within the pool.
	AggregationLength, AggregationLengthV6 int
}

// prefixLength returns the prefix length for addresses like a.
func (a Advertisement) prefixLength(address netip.Addr) int {
	if address.Is4() {
		return a.AggregationLength
	}
	return a.AggregationLengthV6
}

func (a *advertisement) setDefaults() {
	a.AggregationLength, a.AggregationLengthV6 = 32, 128
}

// checkAdvertisements checks how p, whose ranges and layer 2 are known, is announced by BGP.
func (c *checker) checkAdvertisements(pool spot, shapes []advertisement, p Pool) []Advertisement {
	s := pool.key("bgp")
	// What depends on several values is checked once each of them is right.
	right := func() bool { return !c.hasProblems("bgp") && !c.hasProblems(pool.path) }
	var out []Advertisement
	for i, shape := range shapes {
		item := s.item(i)
		a := c.checkAdvertisement(item, shape, fmt.Sprintf("%s/%d", p.Name, i))
		if len(a.Peers) == 0 && right() {
			item.fail("add bgp.peers", "there are no peers to announce the pool to")
		}
		if a.LocalPref.Set && !slices.ContainsFunc(a.Peers, c.isInternal) && right() {
			item.key("localPref").warn("remove it; med and asPathPrepend say something to external peers", "goes to internal peers only, and there is none among its peers")
		}
		checkAggregates(item, a, p)
		if right() {
			checkAgreement(item, a, out, p)
		}
		out = append(out, a)
	}
	if s.given() && len(shapes) == 0 {
		s.fail("write [{}] to announce it to all peers, or remove the key", "an empty list announces nothing")
	}
	if s.given() && right() {
		c.checkFamilies(s, out, p)
	}
	return out
}

func (c *checker) checkAdvertisement(s spot, shape advertisement, name string) Advertisement {
	tags := c.bgp.readCommunities(s.key("communities"), shape.Communities)
	return Advertisement{
		Advertisement: plan.Advertisement{
			Name:             name,
			Peers:            c.peerNames(s.key("peers"), shape.Peers),
			Communities:      tags.standard,
			LargeCommunities: tags.large,
			LocalPref:        metricOf(s.key("localPref"), shape.LocalPref),
			MED:              metricOf(s.key("med"), shape.MED),
			Prepend:          uint8(checkBetween(s.key("asPathPrepend"), shape.ASPathPrepend, 0, maxPrepend)), //nolint:gosec // bounded
		},
		NodeSelector:        selectorOf(s.key("nodeSelectors"), shape.NodeSelectors),
		AggregationLength:   checkBetween(s.key("aggregationLength"), shape.AggregationLength, 1, 32),
		AggregationLengthV6: checkBetween(s.key("aggregationLengthV6"), shape.AggregationLengthV6, 1, 128),
	}
}

// isInternal reports whether the peer of that name is of the node's own AS, or may be.
func (c *checker) isInternal(name string) bool {
	p, ok := c.bgp.peerNamed(name)
	return ok && (p.Internal() || p.Template.peerASN != "")
}

func metricOf(s spot, value *int) plan.Metric {
	if value == nil {
		return plan.Metric{}
	}
	return plan.Metric{Set: true, Value: uint32(checkBetween(s, *value, 0, math.MaxUint32))} //nolint:gosec // bounded
}

// peerNames checks names of peers, each given once. None, or an empty list, are all peers.
func (c *checker) peerNames(s spot, texts []string) []string {
	names := c.bgp.peerNames()
	if len(texts) > 0 {
		names = slices.Clone(texts)
	}
	checkOnce(s, texts, func(item spot, name string) bool {
		_, known := c.bgp.peerNamed(name)
		switch {
		case !known && len(c.bgp.Peers) == 0:
			item.fail("add it to bgp.peers", "there is no peer %q", name)
		case !known:
			item.fail(suggestKey(name, c.bgp.peerNames()), "there is no peer %q", name)
		}
		return known
	})
	slices.Sort(names)
	return names
}

// checkAggregates checks that no prefix that a announces reaches beyond p: what is outside would
// be drawn to the nodes too, and no node answers there.
func checkAggregates(s spot, a Advertisement, p Pool) {
	for _, r := range p.Ranges {
		for _, edge := range []netip.Addr{r.First, r.Last} {
			bits := a.prefixLength(edge)
			prefix, err := edge.Prefix(bits)
			if err != nil || bits < 1 { // reported as out of bounds
				continue
			}
			if r.Contains(prefix.Addr()) && r.Contains(lastOf(prefix)) {
				continue
			}
			key := "aggregationLength"
			if edge.Is6() {
				key = "aggregationLengthV6"
			}
			s.key(key).fail("give a longer prefix, or the pool all of it", "%d makes %s of %s, which reaches beyond %s of the pool", bits, prefix, edge, rangeText(r))
			return
		}
	}
}

// lastOf returns the last address of p.
func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

func rangeText(r ipam.Range) string {
	if r.First == r.Last {
		return r.First.String()
	}
	return r.First.String() + "-" + r.Last.String()
}

// checkAgreement checks that a says nothing else of a prefix than those before it, to a peer that both
// may reach from a node. Communities add up.
func checkAgreement(s spot, a Advertisement, before []Advertisement, p Pool) {
	for i, b := range before {
		meet := mayMeet(a.NodeSelector, b.NodeSelector) && slices.ContainsFunc(a.Peers, func(name string) bool { return slices.Contains(b.Peers, name) })
		same := slices.ContainsFunc(p.Ranges, func(r ipam.Range) bool { return a.prefixLength(r.First) == b.prefixLength(r.First) })
		if !meet || !same {
			continue
		}
		differ := func(key string, differ bool) {
			if differ {
				s.key(key).fail("give both the same, or peers or aggregation lengths of their own", "the pool's advertisement %d announces the same prefixes to the same peers with another %s", i, key)
			}
		}
		differ("localPref", a.LocalPref != b.LocalPref)
		differ("med", a.MED != b.MED)
		differ("asPathPrepend", a.Prepend != b.Prepend)
	}
}

// checkFamilies checks that a peer takes each family of the pool's addresses, or warns where
// they are announced on layer 2 besides.
func (c *checker) checkFamilies(s spot, all []Advertisement, p Pool) {
	for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		has := slices.ContainsFunc(p.Ranges, func(r ipam.Range) bool { return ipam.FamilyOf(r.First) == f })
		told := slices.ContainsFunc(all, func(a Advertisement) bool {
			return slices.ContainsFunc(a.Peers, func(name string) bool {
				peer, _ := c.bgp.peerNamed(name)
				return f == ipam.IPv4 && peer.IPv4 || f == ipam.IPv6 && peer.IPv6 || peer.Template.address != "" && !peer.Template.families
			})
		})
		if !has || told {
			continue
		}
		report := s.fail
		if len(p.L2) > 0 {
			report = s.warn
		}
		report("add it to the families of a peer, or announce the pool to another one", "the pool has %s addresses, and none of its peers takes that family", f)
	}
}
