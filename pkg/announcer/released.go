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
	d := bgp.Resolve(c.node, c.set, c.links.Report(), c.links.Defaults)
	d.Routes, d.Withheld = c.release(boot, d.Routes)
	return d, true
}

// release returns those of wanted that routers are told, and the prefixes of the others; all
// are sorted by prefix.
func (c *core) release(boot time.Duration, wanted []announcement.Route) (told []announcement.Route, withheld []netip.Prefix) {
	before, since := c.released.routes, c.released.withheld
	waiting := map[netip.Prefix]time.Duration{}
	told = make([]announcement.Route, 0, len(wanted))
	for _, r := range wanted {
		for len(before) > 0 && announcement.ComparePrefixes(before[0].Prefix, r.Prefix) < 0 {
			before = before[1:]
		}
		due, waits := since[r.Prefix]
		if !waits {
			due = boot + c.fitness.after + sight.Overdue
		}
		if len(before) > 0 && before[0].Prefix == r.Prefix || boot >= due || c.fitness.result.Ready(routePort(r)) {
			told = append(told, r)
			continue
		}
		withheld, waiting[r.Prefix] = append(withheld, r.Prefix), due
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

// routePorts returns all of them, sorted.
func routePorts(routes []announcement.Route) []health.Port {
	var out []health.Port
	for _, r := range routes {
		if r.HealthPort != 0 {
			out = append(out, routePort(r))
		}
	}
	slices.SortFunc(out, health.Port.Compare)
	return slices.Compact(out)
}
