package announcer

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/health"
	"baremetal.cloud/ccm/pkg/announcer/sight"
)

const (
	// askTime is how long the answer to a question may take that is asked before something is decided
	// by it. What does not answer does not work.
	askTime = 3 * time.Second
	// doubtPause is the least time between two questions because a peer is unwell.
	doubtPause = time.Second
)

// loopbacks are the addresses that every node has.
var loopbacks = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}

// fitness is what an announcer knows of whether its node serves traffic.
type fitness struct {
	// asks says that there is somebody to ask.
	asks bool
	// proxy is what is asked, "" for nothing, ports counts the options and routes by what is
	// asked for them, and changed says that what is asked may be another than was last.
	proxy   string
	ports   map[health.Port]int
	changed bool
	// result is what came of asking, and after is how long the proxy may not work.
	result health.Result
	after  time.Duration
	// answered says that result came of asking what is asked now.
	answered bool
	// unwell is what peers and the cluster side were told.
	unwell bool
	// anew is when an answer was demanded that is no older, and doubts are the peers that say they are
	// unwell.
	anew   time.Duration
	doubts map[string]doubt
}

// known says that there is nothing to ask, or an answer.
func (f *fitness) known() bool { return f.proxy == "" || f.answered }

func newFitness() fitness {
	return fitness{result: health.Result{Works: true}, ports: map[health.Port]int{}, doubts: map[string]doubt{}}
}

// healthTargets takes what is to be asked for the addresses of the plan: nothing without any.
func (c *core) healthTargets() health.Targets {
	c.fitness.changed = false
	if c.fitness.proxy == "" {
		return health.Targets{}
	}
	t := health.Targets{Proxy: c.fitness.proxy, Ports: map[health.Port]bool{}, Own: loopbacks, After: c.fitness.anew}
	for _, i := range c.links.Interfaces {
		for _, p := range i.Prefixes {
			t.Own = append(t.Own[:len(t.Own):len(t.Own)], p.Addr())
		}
	}
	for port := range c.fitness.ports {
		t.Ports[port] = true
	}
	return t
}

// healthPort returns where is asked whether the address is served here.
func (o option) healthPort() health.Port {
	return health.Port{Number: o.HealthPort, IPv6: o.HealthPort != 0 && o.Address.Is6()}
}

// count notes that by options more are like o.
func (f *fitness) count(o option, by int) {
	if o.problem == nil {
		f.countPort(o.healthPort(), by)
	}
}

// countPort notes that port is asked for by more options or routes.
func (f *fitness) countPort(port health.Port, by int) {
	if port.Number == 0 {
		return
	}
	before := f.ports[port]
	if f.ports[port] = before + by; before+by == 0 {
		delete(f.ports, port)
	}
	f.changed = f.changed || before == 0 || before+by == 0
}

// expect begins to ask what the plan says.
func (c *core) expect(boot time.Duration) {
	proxy := ""
	// A node that speaks to routers may be without routes because it is unwell.
	if c.fitness.asks && c.set.Announcements.Len()+len(c.set.BGP.Peers) > 0 {
		proxy = c.set.Health.Proxy
	}
	c.fitness.after = c.set.Health.UnwellAfter
	maps.DeleteFunc(c.fitness.doubts, func(name string, _ doubt) bool {
		return !slices.ContainsFunc(c.set.Sight.Peers, func(p announcement.Peer) bool { return p.Node == name })
	})
	if proxy == c.fitness.proxy {
		return
	}
	// Until it has answered nothing is known, which is no illness yet.
	c.fitness.proxy, c.fitness.changed, c.fitness.answered = proxy, true, false
	c.learn(health.Result{Works: proxy == "", Since: boot})
}

// heal takes what came of asking.
func (c *core) heal(r health.Result) {
	if c.fitness.proxy != "" {
		c.fitness.answered = true
		c.learn(r)
	}
}

// learn keeps r, and has the options made again for which that makes a difference.
func (c *core) learn(r health.Result) {
	before := c.fitness.result
	c.fitness.result = r
	for address, o := range c.options {
		if port := o.healthPort(); before.Ready(port) != r.Ready(port) {
			c.reconsider.Add(address)
		}
	}
}

// demand has the proxy asked anew.
func (f *fitness) demand(boot time.Duration) { f.anew, f.changed = boot, true }

// judge says whether the node is unwell, and whether that is news. What others are to do because of
// that is decided by an answer that is no older.
func (f *fitness) judge(boot time.Duration) (unwell, news bool) {
	at, ever := f.result.UnwellAt(f.after)
	unwell = ever && boot >= at
	if unwell && !f.unwell && f.result.Asked < at && boot < at+askTime {
		if f.anew < at {
			f.demand(boot)
		}
		unwell = false
	}
	news = unwell != f.unwell
	f.unwell = unwell
	return unwell, news
}

// recovery says why a node that was unwell is not: only an answer says that the proxy works.
func (f *fitness) recovery() string {
	switch {
	case f.proxy == "":
		return "kube-proxy of this node is not asked: the plan has nothing that needs it"
	case f.answered && f.result.Works:
		return "kube-proxy of this node works again"
	}
	return "kube-proxy of this node is asked anew; nothing is known of it yet"
}

// wake returns when the node will be unwell if nothing changes; 0 is never.
func (f *fitness) wake() time.Duration {
	at, ever := f.result.UnwellAt(f.after)
	switch {
	case !ever || f.unwell:
		return 0
	case f.anew >= at:
		return at + askTime
	}
	return at
}

// doubt is that a peer says it is unwell: the answer to a question from since on says whether this node
// is healthier, and trusted that there was one.
type doubt struct {
	since   time.Duration
	trusted bool
}

// trusts takes whether a peer says that it is unwell, and reports whether that counts. A node that
// relieves it has to know by a later answer that it is healthier itself, which all options are made
// by: what made the peer unwell may have come to both. While a peer is unwell the proxy is asked once
// in doubtPause.
func (c *core) trusts(boot time.Duration, p sight.Packet) bool {
	f := &c.fitness
	if !p.Unwell || f.proxy == "" {
		delete(f.doubts, p.From)
		return p.Unwell
	}
	if boot >= f.anew+doubtPause {
		f.demand(boot)
	}
	d, known := f.doubts[p.From]
	if !known {
		d.since = f.anew
	}
	d.trusted = d.trusted || f.result.Asked >= d.since && c.reconsider.Len() == 0
	f.doubts[p.From] = d
	return d.trusted
}
