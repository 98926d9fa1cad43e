package announcer

import (
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/proxyhealth"
)

// routeGate are the routes that routers hear. A new one waits until the node's service proxy
// serves it: to go on takes less than to begin. It does not wait for ever, or what is asked could
// leave an address without any route; the cluster side has by then taken the routes of a node
// that is unhealthy away, where others are well.
type routeGate struct {
	// ever reports whether routers were told something, and routes what.
	ever   bool
	routes []plan.Route
	// withheld are the routes that wait, with the time from which on they do not.
	withheld map[netip.Prefix]time.Duration
}

// bgpDesired returns what the node says to routers, or false while it does not know yet: what a
// router heard before a restart must be said again as a whole.
func (c *core) bgpDesired(boot time.Duration) (bgp.Desired, bool) {
	if c.links == nil || c.nodePlan.Version.IsZero() || !c.routeGate.ever && !c.health.isKnown() {
		return bgp.Desired{}, false
	}
	host := bgp.Host{NodeIPs: c.nodeIPs, Interfaces: c.links.Report(), Defaults: c.links.Defaults, Deprecated: c.links.Deprecated()}
	if !c.identifier.IsValid() {
		c.identifier = host.Identifier(c.node)
	}
	d := bgp.Resolve(c.identifier, c.nodePlan, host)
	d.Routes, d.Withheld = c.gateRoutes(boot, d.Routes)
	return d, true
}

// gateRoutes returns those of wanted that routers hear, and the prefixes of the others; all are
// sorted by prefix. Where routers hear all that is wanted, that is not looked at again.
func (c *core) gateRoutes(boot time.Duration, wanted []plan.Route) (told []plan.Route, withheld []netip.Prefix) {
	before, since := c.routeGate.routes, c.routeGate.withheld
	if c.routeGate.ever && len(since) == 0 && plan.SameRoutes(before, wanted) {
		return before, nil
	}
	waiting := map[netip.Prefix]time.Duration{}
	for _, r := range wanted {
		for len(before) > 0 && plan.ComparePrefixes(before[0].Prefix, r.Prefix) < 0 {
			before = before[1:]
		}
		if len(before) > 0 && before[0].Prefix == r.Prefix || c.health.result.Ready(routePort(r)) {
			continue
		}
		due, waits := since[r.Prefix]
		if !waits {
			due = boot + c.health.after + failover.Overdue
		}
		if boot < due {
			withheld, waiting[r.Prefix] = append(withheld, r.Prefix), due
		}
	}
	if told = wanted; len(withheld) > 0 {
		told = slices.DeleteFunc(slices.Clone(wanted), func(r plan.Route) bool { return waiting[r.Prefix] != 0 })
	}
	c.routeGate = routeGate{ever: true, routes: told, withheld: waiting}
	return told, withheld
}

// nextDue returns when the first route that is withheld is announced in any case; 0 is never.
func (r *routeGate) nextDue() time.Duration {
	first := time.Duration(0)
	for _, at := range r.withheld {
		if first == 0 || at < first {
			first = at
		}
	}
	return first
}

// routePort returns where is asked whether the node serves a route.
func routePort(r plan.Route) proxyhealth.Port {
	return proxyhealth.Port{Number: r.HealthPort, IPv6: r.HealthPort != 0 && r.Prefix.Addr().Is6()}
}

// countRoutes notes that the plan has the routes of now in place of those of before.
func (c *core) countRoutes(before, now []plan.Route) {
	changed, gone := plan.RouteDelta(before, now)
	for _, r := range changed {
		if was, ok := plan.FindRoute(before, r.Prefix); ok {
			gone = append(gone, was)
		}
		c.health.countPort(routePort(r), 1)
	}
	for _, r := range gone {
		c.health.countPort(routePort(r), -1)
	}
}
