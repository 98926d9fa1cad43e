package announcer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/proxyhealth"
)

// routedPlan is revision r of a plan with routes, each "PREFIX" or "PREFIX asks 30123".
func routedPlan(r uint64, ports map[string]uint16) plan.NodePlan {
	set := nodePlan(r)
	set.Health = plan.Health{Proxy: "http://127.0.0.1:10256/healthz", UnhealthyAfter: time.Minute}
	set.BGP.Peers = []plan.BGPPeer{{Name: "router"}}
	set.BGP.Advertisements = []plan.Advertisement{{Name: "x"}}
	for _, text := range []string{"192.0.2.0/24", "192.0.2.7/32", "2001:db8::7/128"} {
		if port, ok := ports[text]; ok {
			set.BGP.Routes = append(set.BGP.Routes, plan.Route{Prefix: netip.MustParsePrefix(text), Advertisements: []string{"x"}, HealthPort: port})
		}
	}
	return set
}

// TestRoutesAreReleased: a route is told once the node's service proxy serves it, or after a
// while in any case, and then stays; nothing at all is told before the proxy was asked, so that
// a restart withdraws nothing.
func TestRoutesAreReleased(t *testing.T) {
	c := newCore("a", 1)
	c.health.asks = true
	say := func(boot time.Duration) (told, withheld []string) {
		t.Helper()
		c.configureFailover(boot)
		d, ok := c.bgpDesired(boot)
		require.True(t, ok)
		for _, r := range d.Routes {
			told = append(told, r.Prefix.String())
		}
		for _, p := range d.Withheld {
			withheld = append(withheld, p.String())
		}
		return told, withheld
	}
	port := proxyhealth.Port{Number: 30123}
	c.setLinks(0, links(ifi(2, "eth0", "192.0.2.10/24")))
	require.NoError(t, c.acceptPlan(routedPlan(1, map[string]uint16{"192.0.2.0/24": 0, "192.0.2.7/32": 30123})))
	c.configureFailover(time.Hour)
	require.Equal(t, map[proxyhealth.Port]bool{port: true}, c.healthTargets().Ports)
	_, ok := c.bgpDesired(time.Hour)
	require.False(t, ok, "the proxy has not been asked yet")

	c.setHealth(proxyhealth.Result{Since: time.Hour})
	told, withheld := say(time.Hour)
	require.Empty(t, told)
	require.Equal(t, []string{"192.0.2.0/24", "192.0.2.7/32"}, withheld)
	require.Equal(t, time.Hour+time.Minute+failover.Overdue, c.routeGate.nextDue())

	c.setHealth(proxyhealth.Result{Works: true, Since: time.Hour})
	told, withheld = say(time.Hour)
	require.Equal(t, []string{"192.0.2.0/24"}, told)
	require.Equal(t, []string{"192.0.2.7/32"}, withheld)

	c.setHealth(proxyhealth.Result{Works: true, Since: time.Hour, Serving: map[proxyhealth.Port]bool{port: true}})
	told, withheld = say(time.Hour + time.Second)
	require.Equal(t, []string{"192.0.2.0/24", "192.0.2.7/32"}, told)
	require.Empty(t, withheld)
	require.Zero(t, c.routeGate.nextDue())

	c.setHealth(proxyhealth.Result{Since: 2 * time.Hour})
	require.NoError(t, c.acceptPlan(routedPlan(2, map[string]uint16{"192.0.2.7/32": 30123, "2001:db8::7/128": 30123})))
	told, withheld = say(2 * time.Hour)
	require.Equal(t, []string{"192.0.2.7/32"}, told, "what was told is told while the plan has it")
	require.Equal(t, []string{"2001:db8::7/128"}, withheld)
	require.Equal(t, map[proxyhealth.Port]bool{port: true, {Number: 30123, IPv6: true}: true}, c.healthTargets().Ports)
	told, _ = say(2*time.Hour + time.Minute + failover.Overdue - 1)
	require.Len(t, told, 1)
	told, withheld = say(2*time.Hour + time.Minute + failover.Overdue)
	require.Len(t, told, 2)
	require.Empty(t, withheld)

	require.NoError(t, c.acceptPlan(routedPlan(3, map[string]uint16{"192.0.2.7/32": 30123, "2001:db8::7/128": 30124})))
	told, _ = say(3 * time.Hour)
	require.Len(t, told, 2)
	require.Equal(t, map[proxyhealth.Port]bool{port: true, {Number: 30124, IPv6: true}: true}, c.healthTargets().Ports)

	require.NoError(t, c.acceptPlan(routedPlan(4, nil)))
	told, _ = say(3 * time.Hour)
	require.Empty(t, told)
	require.Empty(t, c.healthTargets().Ports)
	require.NotEmpty(t, c.healthTargets().Proxy, "a node that is unhealthy has no routes, and is to say when it is well")
}

// TestNobodyToAsk: without a service proxy to ask routes are told at once.
func TestNobodyToAsk(t *testing.T) {
	c := newCore("a", 1)
	c.setLinks(0, links(ifi(2, "eth0", "192.0.2.10/24")))
	set := routedPlan(1, map[string]uint16{"192.0.2.0/24": 0})
	set.Health = plan.Health{}
	require.NoError(t, c.acceptPlan(set))
	c.configureFailover(time.Hour)
	d, ok := c.bgpDesired(time.Hour)
	require.True(t, ok)
	require.Len(t, d.Routes, 1)
	require.Empty(t, c.healthTargets().Ports)
}
