package config

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"
)

// odd warns of what is allowed and probably not meant: an administrator would not notice most of
// it before traffic of others is drawn here.
func (c *checker) odd(s spot, config Config) {
	for _, e := range c.entries {
		e.public()
	}
	for i, p := range config.Pools {
		if len(p.L2) > 0 {
			c.anycast(s.key("pools").item(i).path)
		}
	}
	for i, peer := range config.BGP.Peers {
		used := slices.ContainsFunc(config.Pools, func(p Pool) bool {
			return slices.ContainsFunc(p.BGP, func(a Advertisement) bool { return slices.Contains(a.Peers, peer.Name) })
		})
		at := s.key("bgp").key("peers").item(i)
		if !used && peer.Name != "" && !c.hasProblems("pools") {
			at.warn("add bgp: [{}] to a pool, or its name to the peers of one, or remove it", "no pool is announced to peer %q", peer.Name)
		}
	}
}

// manyPublic is how many public addresses of a range are more than an operator of a cluster
// is likely to own: a /16 of IPv4, a /32 of IPv6.
const (
	manyPublicV4 = 16
	manyPublicV6 = 96
)

// private are the addresses that are not routed on the internet, or are for documentation
// (RFC 1918, RFC 6598, RFC 2544, RFC 5737, RFC 4193, RFC 3849, RFC 9637).
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("3fff::/20"),
}

// public warns of a range of very many public addresses.
func (e entry) public() {
	for _, p := range private {
		if p.Contains(e.First) && p.Contains(e.Last) {
			return
		}
	}
	bits := uint(manyPublicV4)
	if e.First.Is6() {
		bits = manyPublicV6
	}
	size := e.Size()
	if size.Cmp(new(big.Int).Lsh(big.NewInt(1), bits)) <= 0 {
		return
	}
	count := size.String() + " addresses"
	if len(size.String()) > 12 {
		count = fmt.Sprintf("about 10^%d addresses", len(size.String())-1)
	}
	e.spot.warn("give the range that is yours", "%s has %s that are public: what is announced here is taken from its owner", e.text, count)
}

// anycast warns of the first range of a pool that has the subnet-router anycast address of a
// /64, for which every router of that subnet answers (RFC 4291 section 2.6.1).
func (c *checker) anycast(pool string) {
	for _, e := range c.entries {
		if len(e.spot.path) <= len(pool) || e.spot.path[:len(pool)+1] != pool+"." || !e.First.Is6() {
			continue
		}
		first := netip.PrefixFrom(e.First, 64).Masked()
		if first.Addr() != e.First { // the next /64 begins within the range, or not at all
			next := lastOf(first).Next()
			if !next.IsValid() || !e.Contains(next) {
				continue
			}
			first = netip.PrefixFrom(next, 64)
		}
		cure := "leave it out"
		if first.Addr() == e.First && e.First != e.Last {
			cure = fmt.Sprintf("write %s-%s", e.First.Next(), e.Last)
		}
		e.spot.warn(cure, "%s is the subnet-router anycast address of %s, for which routers on that segment answer", first.Addr(), first)
		return
	}
}
