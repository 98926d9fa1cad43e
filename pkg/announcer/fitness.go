package announcer

import (
	"net/netip"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/health"
)

// loopbacks are the addresses that every node has.
var loopbacks = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}

// fitness is what an announcer knows of whether its node serves traffic.
type fitness struct {
	// asks says that there is somebody to ask.
	asks bool
	// targets are what is asked, result is what came of it, and after is how long the proxy
	// may not work.
	targets health.Targets
	result  health.Result
	after   time.Duration
	// unwell is what peers and the cluster side were told.
	unwell bool
}

// healthTargets returns what is to be asked for the addresses of the plan: nothing without any.
func (c *core) healthTargets() health.Targets {
	if !c.fitness.asks || len(c.options) == 0 || c.set.Health.Proxy == "" {
		return health.Targets{}
	}
	t := health.Targets{Proxy: c.set.Health.Proxy, Ports: map[health.Port]bool{}, Own: loopbacks}
	for _, i := range c.links.Interfaces {
		for _, p := range i.Prefixes {
			t.Own = append(t.Own[:len(t.Own):len(t.Own)], p.Addr())
		}
	}
	for _, o := range c.options {
		if o.problem == nil && o.HealthPort != 0 {
			t.Ports[o.healthPort()] = true
		}
	}
	return t
}

// healthPort returns where is asked whether the address is served here.
func (o option) healthPort() health.Port {
	return health.Port{Number: o.HealthPort, IPv6: o.HealthPort != 0 && o.Address.Is6()}
}

// expect begins to wait for what comes of asking t.
func (f *fitness) expect(boot time.Duration, t health.Targets, after time.Duration) {
	if t.Proxy != f.targets.Proxy {
		f.result = health.Result{Works: t.Proxy == "", Since: boot}
	}
	f.targets, f.after = t, after
}

// take takes what came of asking.
func (f *fitness) take(r health.Result) {
	if f.targets.Proxy != "" {
		f.result = r
	}
}

// judge says whether the node is unwell, and whether that is news.
func (f *fitness) judge(boot time.Duration) (unwell, news bool) {
	at, ever := f.result.UnwellAt(f.after)
	unwell = ever && boot >= at
	news = unwell != f.unwell
	f.unwell = unwell
	return unwell, news
}

// wake returns when the node will be unwell if nothing changes; 0 is never.
func (f *fitness) wake() time.Duration {
	if at, ever := f.result.UnwellAt(f.after); ever && !f.unwell {
		return at
	}
	return 0
}
