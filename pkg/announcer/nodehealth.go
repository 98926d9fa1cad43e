package announcer

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/proxyhealth"
)

const (
	// askTime is how long the answer to a question may take that is asked before something is decided
	// by it. What does not answer does not work.
	askTime = 3 * time.Second
	// doubtPause is the least time between two questions because a peer is unhealthy.
	doubtPause = time.Second
)

// loopbacks are the addresses that every node has.
var loopbacks = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}

// nodeHealth is what an announcer knows of whether its node serves traffic.
type nodeHealth struct {
	// asks reports whether there is an Options.Ask.
	asks bool
	// proxy is what is asked, "" for nothing, ports counts the options and routes by what is
	// asked for them, and changed reports that what is asked may be another than was last.
	proxy   string
	ports   map[proxyhealth.Port]int
	changed bool
	// result is what came of asking, and after is how long the proxy may not work.
	result proxyhealth.Result
	after  time.Duration
	// answered reports whether result came of asking what is asked now.
	answered bool
	// unhealthy is what peers and the cluster side were told.
	unhealthy bool
	// anew is when an answer was demanded that is no older, and doubts are the peers that say they are
	// unhealthy.
	anew   time.Duration
	doubts map[string]doubt
}

// isKnown reports whether there is nothing to ask, or an answer.
func (f *nodeHealth) isKnown() bool { return f.proxy == "" || f.answered }

func newNodeHealth() nodeHealth {
	return nodeHealth{result: proxyhealth.Result{Works: true}, ports: map[proxyhealth.Port]int{}, doubts: map[string]doubt{}}
}

// healthTargets returns what to ask for the addresses of the plan: nothing without any.
func (c *core) healthTargets() proxyhealth.Targets {
	c.health.changed = false
	if c.health.proxy == "" {
		return proxyhealth.Targets{}
	}
	t := proxyhealth.Targets{Proxy: c.health.proxy, Ports: map[proxyhealth.Port]bool{}, Own: loopbacks, After: c.health.anew}
	for _, i := range c.links.Interfaces {
		for _, p := range i.Prefixes {
			t.Own = append(t.Own[:len(t.Own):len(t.Own)], p.Addr())
		}
	}
	for port := range c.health.ports {
		t.Ports[port] = true
	}
	return t
}

// healthPort returns where is asked whether the address is served here.
func (o option) healthPort() proxyhealth.Port {
	return proxyhealth.Port{Number: o.HealthPort, IPv6: o.HealthPort != 0 && o.Address.Is6()}
}

// countOption notes that by options more are like o.
func (f *nodeHealth) countOption(o option, by int) {
	if o.problem == nil {
		f.countPort(o.healthPort(), by)
	}
}

// countPort notes that port is asked for by more options or routes.
func (f *nodeHealth) countPort(port proxyhealth.Port, by int) {
	if port.Number == 0 {
		return
	}
	before := f.ports[port]
	if f.ports[port] = before + by; before+by == 0 {
		delete(f.ports, port)
	}
	f.changed = f.changed || before == 0 || before+by == 0
}

// startHealthChecks begins to ask what the plan says.
func (c *core) startHealthChecks(boot time.Duration) {
	proxy := ""
	// A node that speaks to routers may be without routes because it is unhealthy.
	if c.health.asks && c.nodePlan.Assignments.Len()+len(c.nodePlan.BGP.Peers) > 0 {
		proxy = c.nodePlan.Health.Proxy
	}
	c.health.after = c.nodePlan.Health.UnhealthyAfter
	maps.DeleteFunc(c.health.doubts, func(name string, _ doubt) bool {
		return !slices.ContainsFunc(c.nodePlan.Failover.Peers, func(p plan.Peer) bool { return p.Node == name })
	})
	if proxy == c.health.proxy {
		return
	}
	// Until it has answered nothing is known, which is no illness yet.
	c.health.proxy, c.health.changed, c.health.answered = proxy, true, false
	c.keepHealth(proxyhealth.Result{Works: proxy == "", Since: boot})
}

// setHealth takes what came of asking.
func (c *core) setHealth(r proxyhealth.Result) {
	if c.health.proxy != "" {
		c.health.answered = true
		c.keepHealth(r)
	}
}

// keepHealth keeps r, and notes the options to make again: those for which that makes a
// difference.
func (c *core) keepHealth(r proxyhealth.Result) {
	before := c.health.result
	c.health.result = r
	for address, o := range c.options {
		if port := o.healthPort(); before.Ready(port) != r.Ready(port) {
			c.reconsider.Add(address)
		}
	}
}

// demandAnswer demands that the proxy is asked anew.
func (f *nodeHealth) demandAnswer(boot time.Duration) { f.anew, f.changed = boot, true }

// judgeHealth reports whether the node is unhealthy, and whether that is news. What others do because of
// that is decided by an answer that is no older.
func (f *nodeHealth) judgeHealth(boot time.Duration) (unhealthy, news bool) {
	at, ever := f.result.UnhealthyAt(f.after)
	unhealthy = ever && boot >= at
	if unhealthy && !f.unhealthy && f.result.Asked < at && boot < at+askTime {
		if f.anew < at {
			f.demandAnswer(boot)
		}
		unhealthy = false
	}
	news = unhealthy != f.unhealthy
	f.unhealthy = unhealthy
	return unhealthy, news
}

// recovery says why a node that was unhealthy is not: only an answer reports that the proxy works.
func (f *nodeHealth) recovery() string {
	switch {
	case f.proxy == "":
		return "kube-proxy of this node is not asked: the plan has nothing that needs it"
	case f.answered && f.result.Works:
		return "kube-proxy of this node works again"
	}
	return "kube-proxy of this node is asked anew; nothing is known of it yet"
}

// wakeAt returns when the node will be unhealthy if nothing changes; 0 is never.
func (f *nodeHealth) wakeAt() time.Duration {
	at, ever := f.result.UnhealthyAt(f.after)
	switch {
	case !ever || f.unhealthy:
		return 0
	case f.anew >= at:
		return at + askTime
	}
	return at
}

// doubt is that a peer says it is unhealthy: the answer to a question from since on says whether this node
// is healthier, and trusted that there was one.
type doubt struct {
	since   time.Duration
	trusted bool
}

// trustsUnhealthy takes whether a peer reports that it is unhealthy, and reports whether that counts. A node that
// relieves it has to know by a later answer that it is healthier itself, which all options are made
// by: what made the peer unhealthy may have come to both. While a peer is unhealthy the proxy is asked once
// in doubtPause.
func (c *core) trustsUnhealthy(boot time.Duration, p failover.Packet) bool {
	f := &c.health
	if !p.Unhealthy || f.proxy == "" {
		delete(f.doubts, p.From)
		return p.Unhealthy
	}
	if boot >= f.anew+doubtPause {
		f.demandAnswer(boot)
	}
	d, known := f.doubts[p.From]
	if !known {
		d.since = f.anew
	}
	d.trusted = d.trusted || f.result.Asked >= d.since && c.reconsider.Len() == 0
	f.doubts[p.From] = d
	return d.trusted
}
