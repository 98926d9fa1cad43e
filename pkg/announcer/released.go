package announcer

import (
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/health"
	"baremetal.cloud/ccm/pkg/announcer/sight"
)

// released are the routes that routers are told. A new one waits until the node's service
// proxy serves it: to be fit to go on takes less than to be fit to begin. It does not wait for
// ever, or what is asked could leave an address without any route; the cluster side has by
// then taken the routes of a node that is unwell away, where others are well.
type released struct {
	// ever says that routers were told something, and routes what.
	ever   bool
	routes []announcement.Route
	// withheld are the routes that wait, with the time from which on they do not.
	withheld map[netip.Prefix]time.Duration
}

// say returns what the node says to routers, or false while it does not know yet: what a
// router was told before a restart is to be said again as a whole.
func (c *core) say(boot time.Duration) (bgp.Desired, bool) {
	if c.links == nil || c.set.Stamp.IsZero() || !c.released.ever && !c.fitness.known() {
		return bgp.Desired{}, false
	}
	host := bgp.Host{NodeIPs: c.nodeIPs, Interfaces: c.links.Report(), Defaults: c.links.Defaults, Deprecated: c.links.Deprecated()}
	if !c.identifier.IsValid() {
		c.identifier = host.Identifier(c.node)
	}
	d := bgp.Resolve(c.identifier, c.set, host)
	d.Routes, d.Withheld = c.release(boot, d.Routes)
	return d, true
}

// release returns those of wanted that routers are told, and the prefixes of the others; all
// are sorted by prefix. Where routers are told all that is wanted, that is not looked at again.
func (c *core) release(boot time.Duration, wanted []announcement.Route) (told []announcement.Route, withheld []netip.Prefix) {
	before, since := c.released.routes, c.released.withheld
	if c.released.ever && len(since) == 0 && announcement.SameRoutes(before, wanted) {
		return before, nil
	}
	waiting := map[netip.Prefix]time.Duration{}
	for _, r := range wanted {
		for len(before) > 0 && announcement.ComparePrefixes(before[0].Prefix, r.Prefix) < 0 {
			before = before[1:]
		}
		if len(before) > 0 && before[0].Prefix == r.Prefix || c.fitness.result.Ready(routePort(r)) {
			continue
		}
		due, waits := since[r.Prefix]
		if !waits {
			due = boot + c.fitness.after + sight.Overdue
		}
		if boot < due {
			withheld, waiting[r.Prefix] = append(withheld, r.Prefix), due
		}
	}
	if told = wanted; len(withheld) > 0 {
		told = slices.DeleteFunc(slices.Clone(wanted), func(r announcement.Route) bool { return waiting[r.Prefix] != 0 })
	}
	c.released = released{ever: true, routes: told, withheld: waiting}
	return told, withheld
}

// due returns when the first route that is withheld is told in any case; 0 is never.
func (r *released) due() time.Duration {
	first := time.Duration(0)
	for _, at := range r.withheld {
		if first == 0 || at < first {
			first = at
		}
	}
	return first
}

// routePort returns where is asked whether the node serves a route.
func routePort(r announcement.Route) health.Port {
	return health.Port{Number: r.HealthPort, IPv6: r.HealthPort != 0 && r.Prefix.Addr().Is6()}
}

// countRoutes notes that the plan has the routes of now in place of those of before.
func (c *core) countRoutes(before, now []announcement.Route) {
	changed, gone := announcement.RouteChanges(before, now)
	for _, r := range changed {
		if was, ok := announcement.FindRoute(before, r.Prefix); ok {
			gone = append(gone, was)
		}
		c.fitness.countPort(routePort(r), 1)
	}
	for _, r := range gone {
		c.fitness.countPort(routePort(r), -1)
	}
}
