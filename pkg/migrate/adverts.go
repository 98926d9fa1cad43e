package migrate

import (
	"net/netip"
	"reflect"
	"slices"

	"baremetal.cloud/ccm/pkg/ipam"
)

// maxPrepend is how often the cloud-config repeats the own AS at most.
const maxPrepend = 10

// settleAdvertisements writes how a pool is announced by BGP: to peers that are carried over, in
// prefixes that lie within the pool.
func (c *converter) settleAdvertisements(p *pool) {
	for _, a := range p.adverts {
		if !c.keepPeers(&a) {
			continue
		}
		c.fitAggregation(p, &a)
		if a.ASPathPrepend > maxPrepend {
			c.lose(a.place, "asPathPrepend %d is more than the %d that are possible here", a.ASPathPrepend, maxPrepend)
			a.ASPathPrepend = maxPrepend
		}
		selectors := fold(a.NodeSelectors)
		if len(selectors) == 0 {
			selectors = []outSelector{{}}
		}
		for _, s := range selectors { // the same for nodes of any of them
			a.NodeSelectors = nil
			if !s.isEmpty() {
				a.NodeSelectors = []outSelector{s}
			}
			if clashes(p, a.outAdvertisement) {
				c.lose(a.place, "the BGP advertisement is not carried over: another one announces the same prefixes of the pool %q to the same peers with other attributes", p.Name)
				continue
			}
			p.BGP = append(p.BGP, a.outAdvertisement)
		}
	}
	if len(p.BGP) > 0 && len(p.L2) == 0 {
		c.hearFamilies(p)
	}
}

// clashes reports whether a says something else of a prefix than an advertisement of the pool before
// it, to a peer that both may reach from a node. The cloud-config refuses that.
func clashes(p *pool, a outAdvertisement) bool {
	return slices.ContainsFunc(p.BGP, func(b outAdvertisement) bool {
		nodes := len(a.NodeSelectors) == 0 || len(b.NodeSelectors) == 0 || reflect.DeepEqual(a.NodeSelectors, b.NodeSelectors)
		peers := len(a.Peers) == 0 || len(b.Peers) == 0 || slices.ContainsFunc(a.Peers, func(name string) bool { return slices.Contains(b.Peers, name) })
		prefixes := p.has(ipam.IPv4) && a.AggregationLength == b.AggregationLength || p.has(ipam.IPv6) && a.AggregationLengthV6 == b.AggregationLengthV6
		return nodes && peers && prefixes && (a.preference() != b.preference() || a.ASPathPrepend != b.ASPathPrepend)
	})
}

// preference returns the local preference; -1 if there is none.
func (a outAdvertisement) preference() int64 {
	if a.LocalPref == nil {
		return -1
	}
	return *a.LocalPref
}

// keepPeers leaves the peers of an advertisement that are carried over. It is false, with the reason
// recorded, if there are none.
func (c *converter) keepPeers(a *placedAdvertisement) bool {
	if len(c.peers) == 0 {
		c.lose(a.place, "the BGP advertisement is not carried over: no router is")
		return false
	}
	if len(a.Peers) == 0 {
		return true
	}
	var kept []string
	for _, name := range a.Peers {
		_, known := c.peer(ourName(name))
		switch {
		case known && !slices.Contains(kept, ourName(name)):
			kept = append(kept, ourName(name))
		case !known && !c.lostPeers[name]:
			c.note(a.place, "the source has no peer %q", name)
		}
	}
	if a.Peers = kept; len(kept) == 0 {
		c.lose(a.place, "the BGP advertisement is not carried over: none of its peers is")
	}
	return len(kept) > 0
}

// fitAggregation drops an aggregation length that makes prefixes beyond the pool.
func (c *converter) fitAggregation(p *pool, a *placedAdvertisement) {
	for _, r := range p.ranges {
		length, key := &a.AggregationLength, "aggregationLength"
		if r.First.Is6() {
			length, key = &a.AggregationLengthV6, "aggregationLengthV6"
		}
		if *length == 0 {
			continue
		}
		for _, edge := range []netip.Addr{r.First, r.Last} {
			prefix, err := edge.Prefix(int(*length))
			if whole, parsed := ipam.ParseRange(prefix.String()); err == nil && parsed == nil && r.Contains(whole.First) && r.Contains(whole.Last) {
				continue
			}
			c.lose(a.place, "%s %d is not carried over: it makes prefixes that reach beyond %s of the pool; each address is announced by itself", key, *length, r.text)
			*length = 0
			break
		}
	}
}

// hearFamilies adds a family of the pool that none of its peers takes to all of these peers: the
// cloud-config refuses addresses of which no router hears.
func (c *converter) hearFamilies(p *pool) {
	for _, f := range p.families() {
		var peers []*peer
		heard := false
		for _, a := range p.BGP {
			for _, candidate := range c.peers {
				if len(a.Peers) == 0 || slices.Contains(a.Peers, candidate.Name) {
					peers = append(peers, candidate)
					heard = heard || candidate.takes(f)
				}
			}
		}
		if heard {
			continue
		}
		for _, candidate := range peers {
			if !candidate.takes(f) {
				candidate.Families = []string{"ipv4", "ipv6"}
				c.lose(candidate.place, "takes no %s prefixes there, so that no router hears of the %s addresses of the pool %q; that is not possible here, and the peer gets both families", f, f, p.Name)
			}
		}
	}
}
