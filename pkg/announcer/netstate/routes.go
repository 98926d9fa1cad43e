package netstate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// maxRoutes is how many prefixes of routes by gateways are kept; of more, those with the
	// longest prefixes are forgotten, which lead to Pods and to networks far away.
	maxRoutes = 4096
	// maxSegments is how many on-link prefixes of one interface are kept.
	maxSegments = 256
)

// hop is one way of a route.
type hop struct {
	index int
	// gateway is the next hop, not valid where the route is on-link.
	gateway netip.Addr
	// declared reports whether the administrator declared the gateway to be on the link.
	declared bool
}

// routes are what is kept of the routing tables. It is pure.
type routes struct {
	// tables are those that packets to a load balancer's clients are looked up in by their
	// destination alone: the main one and those of VRFs.
	tables map[int]bool
	// best is, for each table and prefix, the route that the kernel uses.
	best map[destination]best
	// limits are the longest prefixes of either family that are still kept for routes by gateways.
	limits map[bool]int
	// segments are the on-link prefixes by interface, in any table, and gateways the next hops.
	segments map[int]map[netip.Prefix]bool
	gateways map[int]map[gateway]bool
	// preferred are the default routes of the main table that have a gateway.
	preferred []defaultRoute
}

type destination struct {
	table  int
	prefix netip.Prefix
}

type best struct {
	metric int
	hops   []hop
}

// gateway is a next hop of routes of one family.
type gateway struct {
	address        netip.Addr
	ipv4, declared bool
}

// defaultRoute is a default route by one gateway.
type defaultRoute struct {
	gateway       netip.Addr
	index, metric int
}

func (r defaultRoute) compare(s defaultRoute) int {
	return cmp.Or(cmp.Compare(r.metric, s.metric), r.gateway.Compare(s.gateway), cmp.Compare(r.index, s.index))
}

// newRoutes returns routes without any; vrfs are the tables of VRFs.
func newRoutes(vrfs map[int]int) routes {
	r := routes{
		tables: map[int]bool{unix.RT_TABLE_MAIN: true}, best: map[destination]best{}, limits: map[bool]int{true: 32, false: 128},
		segments: map[int]map[netip.Prefix]bool{}, gateways: map[int]map[gateway]bool{},
	}
	for _, table := range vrfs {
		r.tables[table] = true
	}
	return r
}

// addRoute takes a route, in the order in which the kernel has them: of equal ones it uses the
// first.
func (r *routes) addRoute(table int, prefix netip.Prefix, metric int, hops []hop) {
	if prefix.Addr().IsLinkLocalUnicast() || prefix.Addr().IsMulticast() || len(hops) == 0 {
		return
	}
	for _, h := range hops {
		r.addHop(table, prefix, metric, h)
	}
	if !r.tables[table] {
		return
	}
	key := destination{table, prefix}
	known, ok := r.best[key]
	switch {
	case ok && known.metric <= metric:
	case !ok && !onLink(hops) && prefix.Bits() > r.limits[prefix.Addr().Is4()]:
	default:
		r.best[key] = best{metric, hops}
		r.pruneLongest(prefix.Addr().Is4())
	}
}

func (r *routes) addHop(table int, prefix netip.Prefix, metric int, h hop) {
	if !h.gateway.IsValid() {
		if r.segments[h.index] == nil {
			r.segments[h.index] = map[netip.Prefix]bool{}
		}
		if len(r.segments[h.index]) < maxSegments {
			r.segments[h.index][prefix] = true
		}
		return
	}
	if r.gateways[h.index] == nil {
		r.gateways[h.index] = map[gateway]bool{}
	}
	r.gateways[h.index][gateway{h.gateway, prefix.Addr().Is4(), h.declared}] = true
	if prefix.Bits() == 0 && table == unix.RT_TABLE_MAIN {
		r.preferred = append(r.preferred, defaultRoute{h.gateway, h.index, metric})
	}
}

// pruneLongest forgets the longest prefixes of a family, where there are too many.
func (r *routes) pruneLongest(ipv4 bool) {
	for len(r.best) > maxRoutes && r.limits[ipv4] > 0 {
		r.limits[ipv4]--
		maps.DeleteFunc(r.best, func(d destination, b best) bool {
			return d.prefix.Addr().Is4() == ipv4 && d.prefix.Bits() > r.limits[ipv4] && !onLink(b.hops)
		})
	}
}

func onLink(hops []hop) bool {
	return slices.ContainsFunc(hops, func(h hop) bool { return !h.gateway.IsValid() })
}

// destinations returns what the kernel sends out by each interface: what is on its segment,
// default routes, and then those with the shortest prefixes, as many as a node may report.
func (r *routes) destinations() map[int][]plan.Destination {
	out := map[int][]plan.Destination{}
	for d, b := range r.best {
		for _, h := range b.hops {
			out[h.index] = append(out[h.index], plan.Destination{Prefix: d.prefix, OnLink: !h.gateway.IsValid()})
		}
	}
	rank := func(d plan.Destination) int {
		switch {
		case d.Prefix.Bits() == 0:
			return 0
		case d.OnLink:
			return 1
		}
		return 2
	}
	for index, list := range out {
		slices.SortFunc(list, func(a, b plan.Destination) int {
			return cmp.Or(rank(a)-rank(b), a.Prefix.Bits()-b.Prefix.Bits(), a.Compare(b))
		})
		list = slices.Compact(list)
		list = list[:min(len(list), plan.MaxDestinations)]
		slices.SortFunc(list, plan.Destination.Compare)
		out[index] = slices.Clip(list)
	}
	return out
}

// sendsIPv4 reports whether the kernel can send IPv4 by the interface: by a route to its
// segment, which an address makes or an administrator, or by a gateway that is declared to be
// there or is resolved by IPv6. A gateway on a segment that is gone with its address is none.
func (r *routes) sendsIPv4(index int, of addresses) bool {
	for segment := range r.segments[index] {
		if segment.Addr().Is4() {
			return true
		}
	}
	for g := range r.gateways[index] {
		if g.ipv4 && (g.declared || g.address.Is6() && len(of.linkLocal) > 0) {
			return true
		}
	}
	return false
}

// sendsIPv6 reports the same of IPv6, which needs an address that can be used to resolve
// others. The route to a segment stays while its only address cannot be used, and counts for
// nothing then.
func (r *routes) sendsIPv6(index int, of addresses) bool {
	if len(of.linkLocal) == 0 && !slices.ContainsFunc(of.usable, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		return false
	}
	for segment := range r.segments[index] {
		made := func(p netip.Prefix) bool { return p.Masked() == segment }
		if segment.IsSingleIP() && slices.ContainsFunc(of.usable, made) {
			continue // The kernel makes a route even for an address that has no segment.
		}
		if segment.Addr().Is6() && (slices.ContainsFunc(of.usable, made) || !slices.ContainsFunc(of.unusable, made)) {
			return true
		}
	}
	for g := range r.gateways[index] {
		if !g.ipv4 && (g.declared || g.address.IsLinkLocalUnicast() && len(of.linkLocal) > 0) {
			return true
		}
	}
	return false
}

// sortedGateways returns all next hops, each once.
func (r *routes) sortedGateways() []netip.Addr {
	all := map[netip.Addr]bool{}
	for _, of := range r.gateways {
		for g := range of {
			all[g.address] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), netip.Addr.Compare)
}

// defaults returns the default routes in the order in which the kernel prefers them.
func (r *routes) defaults() []defaultRoute {
	slices.SortFunc(r.preferred, defaultRoute.compare)
	return r.preferred
}
