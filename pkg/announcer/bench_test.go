package announcer

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/proxyhealth"
)

// fakeResponder has no sockets: it knows what it is to answer, and fails as it is told.
type fakeResponder struct {
	ports  []*responder.Port
	failed map[int]error
	// announced, if not nil, takes what is announced, and otherwise what is in other forms.
	announced, otherwise func([]netip.Addr)
	// full says that there is no room for what is announced.
	full bool
}

func (f *fakeResponder) Apply(ports []*responder.Port) map[int]error {
	f.ports = ports
	failed := map[int]error{}
	for _, p := range ports {
		if err := f.failed[p.Index]; err != nil {
			failed[p.Index] = err
		}
	}
	return failed
}

func (f *fakeResponder) Announce(addresses []netip.Addr) ([]netip.Addr, error) {
	if f.full {
		return addresses, unix.EAGAIN
	}
	if f.announced != nil {
		f.announced(addresses)
	}
	return nil, nil
}

func (f *fakeResponder) AnnounceOtherwise(addresses []netip.Addr) error {
	if f.otherwise != nil {
		f.otherwise(addresses)
	}
	return nil
}

func (*fakeResponder) Counts() responder.Counts { return responder.Counts{} }
func (*fakeResponder) Close()                   {}

// faked returns the announcer of node0 without sockets, which nobody runs.
func faked(report func(plan.Report)) (a *Announcer, v4, v6 *fakeResponder) {
	return fakedOn("node0", report)
}

// fakedOn returns the announcer of node without sockets, whose life is 1 and which nobody runs.
func fakedOn(node string, report func(plan.Report)) (a *Announcer, v4, v6 *fakeResponder) {
	v4, v6 = &fakeResponder{}, &fakeResponder{}
	a = New(Options{
		Node: node, Report: report,
		IPv4: func(func(), func() bool) Responder { return v4 },
		IPv6: func(func(), func() bool) Responder { return v6 },
	})
	a.core = newCore(node, 1)
	a.clock = func() time.Duration { return 0 } // What is done takes no time.
	return a, v4, v6
}

// crowd is an announcer with many addresses, and ten peers that it hears.
type crowd struct {
	*Announcer
	all  []plan.Assignment
	set  plan.NodePlan
	now  time.Time
	boot time.Duration
	seq  uint64
}

// newCrowd makes plans of n addresses, and one more to change them by. There is no such
// interface, so that nothing is sent.
func newCrowd(n int) *crowd {
	a, _, _ := faked(func(plan.Report) {})
	c := &crowd{Announcer: a, now: began, boot: time.Hour, set: plan.NodePlan{Cluster: "c", Version: plan.Version{Term: 1, Revision: 1}}}
	c.set.Failover = plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3}
	for i := range 10 {
		c.set.Failover.Peers = append(c.set.Failover.Peers, plan.Peer{Node: fmt.Sprintf("node%d", i+1), Interfaces: []plan.Interface{
			{Name: "absent0", Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(20 + i)}), 8)}},
		}})
	}
	for i := range n + 1 {
		c.all = append(c.all, plan.Assignment{
			Address: netip.AddrFrom4([4]byte{10, 1, byte(i >> 7), byte(2 * i)}), Version: c.set.Version,
			Candidates: []string{"node0", fmt.Sprintf("node%d", i%10+1), fmt.Sprintf("node%d", (i+1)%10+1)},
		})
	}
	c.set.Assignments = plan.NewIndex(c.all[:n]...)
	state := links(ifi(2, "absent0", "10.0.0.10/8"))
	c.step(c.now, c.boot, events{links: &state, plans: map[string]plan.NodePlan{"r": c.set}})
	for range 10 {
		c.finish()
		c.exchange()
	}
	c.finish()
	return c
}

// exchange takes a packet of every peer.
func (c *crowd) exchange() {
	c.seq++
	c.now, c.boot = c.now.Add(50*time.Millisecond), c.boot+50*time.Millisecond
	for i := range 10 {
		c.step(c.now, c.boot, events{packets: arrivals(failover.Packet{
			From: fmt.Sprintf("node%d", i+1), Incarnation: 2, Seq: c.seq, Heard: failover.Echo{Incarnation: 1, Seq: c.seq}, Hears: true, Detect: 300 * time.Millisecond,
		})})
	}
}

// replan carries out a plan that is changed by change.
func (c *crowd) replan(change func(*plan.NodePlan)) {
	c.set.Version.Revision++
	change(&c.set)
	c.now, c.boot = c.now.Add(time.Microsecond), c.boot+time.Microsecond
	c.step(c.now, c.boot, events{plans: map[string]plan.NodePlan{"r": c.set}})
}

// finish has the announcer do what it does in turns of its own.
func (c *crowd) finish() {
	for c.core.hasPending() || c.core.failover.Busy() {
		c.step(c.now, c.boot, events{})
	}
}

// measure reports the processor time of each run of a step, which other programs on the
// machine do not change as they do the time that passes.
func measure(b *testing.B, step func(i int)) {
	used := func() int64 {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	b.ReportAllocs()
	runtime.GC()
	before, i := used(), 0
	for ; b.Loop(); i++ {
		step(i)
	}
	b.ReportMetric(float64(used()-before)/float64(i), "cpu-ns/op")
}

// BenchmarkChange shows what one change of the plan costs beside how many addresses the
// node has: an address that comes and goes, and one that another node gets and gives back.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{0, 10, 1000, 3000, 10000} {
		b.Run(fmt.Sprint("added and removed/", n), func(b *testing.B) {
			c, extra := newCrowd(n), netip.Addr{}
			defer c.closeAll()
			measure(b, func(i int) {
				c.replan(func(s *plan.NodePlan) {
					if extra = c.all[n].Address; i%2 == 0 {
						s.Assignments = s.Assignments.With(c.all[n])
					} else {
						s.Assignments = s.Assignments.Without(extra)
					}
				})
			})
			c.check(b, n)
		})
		if n == 0 {
			continue
		}
		b.Run(fmt.Sprint("moved/", n), func(b *testing.B) {
			c := newCrowd(n)
			defer c.closeAll()
			measure(b, func(i int) {
				c.replan(func(s *plan.NodePlan) {
					a := c.all[i/2%n]
					a.Version = s.Version
					if i%2 == 0 {
						a.Candidates = []string{"node1", "node0"}
					}
					s.Assignments = s.Assignments.With(a)
				})
			})
			c.check(b, n-1)
		})
	}
}

// BenchmarkRoutes shows what one change of the plan costs beside how many routes the node tells
// routers: an address of layer 2, and a route, that comes and goes.
func BenchmarkRoutes(b *testing.B) {
	for _, n := range []int{0, 10, 1000, 10000} {
		c := newCrowd(1)
		c.options.Speaker = bgp.NewSpeaker(bgp.Options{OnState: func(bgp.State) {}})
		serving := map[proxyhealth.Port]bool{}
		routes := make([]plan.Route, n+1)
		for i := range routes {
			address := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
			routes[i] = plan.Route{Prefix: netip.PrefixFrom(address, 32), Advertisements: []string{"pool/0"}, HealthPort: uint16(30000 + i%2000)}
			serving[routePort(routes[i])] = true
		}
		c.core.keepHealth(proxyhealth.Result{Works: true, Serving: serving})
		c.replan(func(s *plan.NodePlan) {
			s.BGP.Peers = []plan.BGPPeer{{Name: "router", Address: netip.MustParseAddr("10.0.0.1"), IPv4: true}}
			s.BGP.Routes = routes[:n]
		})
		b.Run(fmt.Sprint("address/", n), func(b *testing.B) {
			measure(b, func(i int) {
				c.replan(func(s *plan.NodePlan) {
					if i%2 == 0 {
						s.Assignments = s.Assignments.With(c.all[1])
					} else {
						s.Assignments = s.Assignments.Without(c.all[1].Address)
					}
				})
			})
		})
		b.Run(fmt.Sprint("route/", n), func(b *testing.B) {
			measure(b, func(i int) {
				c.replan(func(s *plan.NodePlan) { s.BGP.Routes = slices.Clone(routes[:n+1-i%2]) })
			})
			if told := len(c.core.routeGate.routes); told < n {
				b.Fatalf("%d routes are told, %d expected", told, n)
			}
		})
		c.closeAll()
	}
}

// BenchmarkIdle shows what a packet of a peer costs beside how many addresses there are.
func BenchmarkIdle(b *testing.B) {
	for _, n := range []int{10, 3000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCrowd(n)
			defer c.closeAll()
			measure(b, func(int) { c.exchange() })
			c.check(b, n)
		})
	}
}

// check stops a benchmark that did something else than it says.
func (c *crowd) check(b *testing.B, least int) {
	if claims := c.Status().Claims.Len(); claims < least || claims > least+1 {
		b.Fatalf("%d claims, %d expected", claims, least)
	}
	if up := c.core.failover.Counts()[failover.Up]; up != 10 && b.N > 1 && c.seq > 10+uint64(b.N) {
		b.Fatalf("%d peers are up", up)
	}
}
