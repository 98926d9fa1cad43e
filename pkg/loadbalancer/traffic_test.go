package loadbalancer

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// headers4 and headers6 are the bytes of Ethernet, IP and UDP before a datagram.
	headers4 = 14 + 20 + 8
	headers6 = 14 + 40 + 8
	// addressesPerNode is how many addresses there are for each node, and mostAddresses for all.
	addressesPerNode = 10
	mostAddresses    = 10_000

	// hop is how long a datagram is under way, and asking how long a node asks the LAN.
	hop    = time.Millisecond
	asking = 120 * time.Millisecond
	// seconds is for how long a LAN is watched. All announcers start within the first second;
	// nothing happens in the third, at whose end the node that has most peers dies.
	seconds = 4
)

// volume is what a node sent or received in a second.
type volume struct{ frames, bytes int }

func (v *volume) add(size int) {
	v.frames++
	v.bytes += size
}

// kbits returns it in kbit/s, with headers on each frame.
func (v volume) kbits(headers int) float64 { return float64(v.bytes+v.frames*headers) * 8 / 1000 }

// talker is a node of a lan: its core, and what it sent and received in each second.
type talker struct {
	core   *failover.Node
	begins time.Duration
	dead   bool
	inbox  []failover.Packet
	frames uint64
	wake   time.Duration
	// asked are the addresses that the LAN is asked for, of which answered is the end.
	asked          []netip.Addr
	answered       time.Duration
	sent, received [seconds]volume
}

// lan is all nodes of some plans, with the announcers' own rule of whom to tell what and when.
type lan struct {
	talkers []*talker
	named   map[string]*talker
	// under are the packets that arrive a hop from now.
	under []datagram
	// told is the last part of which the size was asked for.
	told *failover.Part
	size int
}

type datagram struct {
	failover.Outgoing
	size int
}

func newLAN(random *rand.Rand, names []string, plans map[string]plan.NodePlan) *lan {
	l := &lan{named: map[string]*talker{}}
	for _, name := range names {
		set := plans[name]
		n := &talker{
			core:   failover.NewNode(name, random.Uint64()|1),
			begins: time.Hour + time.Duration(random.Int64N(int64(time.Second))),
		}
		n.wake = n.begins
		n.core.Configure(n.begins, set.Failover)
		for a := range set.Assignments.All() {
			n.core.Put(n.begins, failover.List{Address: a.Address, Version: a.Version, Candidates: a.Candidates, Able: true, Ready: true})
		}
		l.talkers = append(l.talkers, n)
		l.named[name] = n
	}
	return l
}

// run lets a second go by.
func (l *lan) run(second int) {
	begin := time.Hour + time.Duration(second)*time.Second
	for now := begin; now < begin+time.Second; now += hop {
		arriving := l.under
		l.under = nil
		for _, d := range arriving {
			if n := l.named[d.To]; !n.dead && now >= n.begins {
				n.received[second].add(d.size)
				n.frames++
				n.inbox = append(n.inbox, d.Packet)
			}
		}
		for _, n := range l.talkers {
			if !n.dead && (len(n.inbox) > 0 || n.wake <= now) {
				l.turn(second, now, n)
			}
		}
	}
}

// turn does what the announcer's owner does.
func (l *lan) turn(second int, now time.Duration, n *talker) {
	n.core.CountFrames(n.frames)
	for _, p := range n.inbox {
		_ = n.core.Receive(now, p) // What does not count does not.
	}
	n.inbox = n.inbox[:0]
	if n.asked != nil && now >= n.answered {
		n.core.SetProbeResults(now, n.asked, nil)
		n.asked = nil
	}
	n.core.Reconcile(now)
	if asked := n.core.TakeProbes(); asked != nil {
		n.asked, n.answered = append(n.asked, asked...), now+asking
	}
	for _, out := range n.core.Flush(now) {
		size := l.sizeOf(out)
		n.sent[second].add(size)
		l.under = append(l.under, datagram{out, size})
	}
	n.wake = n.core.Wake()
	if n.asked != nil {
		n.wake = min(n.wake, n.answered)
	}
}

// sizeOf returns how long a packet is as a datagram, which only its part bears on.
func (l *lan) sizeOf(out failover.Outgoing) int {
	if l.size == 0 || out.Packet.Part != l.told {
		l.told, l.size = out.Packet.Part, len(failover.NewSealer(plan.Key{}, out.Packet.From, out.To).Seal(out.Packet))
	}
	return l.size
}

// unanswered counts the addresses that not exactly one node claims, though one could.
func (l *lan) unanswered(w *world) (wrong int) {
	for address, list := range w.b.plan.lists {
		living, claimed := 0, 0
		for _, name := range list.Candidates {
			n := l.named[name]
			if n.dead {
				continue
			}
			living++
			if !n.core.Claim(address).IsZero() {
				claimed++
			}
		}
		if claimed != min(living, 1) {
			wrong++
		}
	}
	return wrong
}

// traffic is the most of any node, each way: what it sent, or what it received.
type traffic struct {
	sessions int
	// starting is in a second in which announcers start, steady in one in which nothing
	// happens, and dying in the one after a node died.
	starting, steady, dying volume
}

// heartbeatTraffic plans addresses for n nodes, starts their announcers, and kills the one
// with most peers, whose addresses others take over. A fifth of the Services are of
// externalTrafficPolicy Local, with Pods on three nodes wherever they are, and a fifth of pools
// for some of the nodes.
func heartbeatTraffic(t testing.TB, n int) traffic {
	random := rand.New(rand.NewPCG(uint64(n), 7))
	w := town(t, random, n, min(addressesPerNode*n, mostAddresses))
	w.acknowledge()
	names := slices.Sorted(maps.Keys(w.plans))
	l := newLAN(random, names, w.plans)
	for second := range seconds - 1 {
		l.run(second)
	}
	require.Zero(t, l.unanswered(w), "after the start")
	peers := func(name string) int { return len(w.plans[name].Failover.Peers) }
	busiest := slices.MaxFunc(names, func(x, y string) int { return peers(x) - peers(y) })
	l.named[busiest].dead = true
	l.run(seconds - 1)
	require.Zero(t, l.unanswered(w), "after a node died")
	most := l.most()
	return traffic{peers(busiest), slices.MaxFunc(most[:2], larger), most[2], most[3]}
}

// most returns the most that a node sent or received in each second.
func (l *lan) most() (most [seconds]volume) {
	for _, n := range l.talkers {
		for i := range most {
			most[i] = slices.MaxFunc([]volume{most[i], n.sent[i], n.received[i]}, larger)
		}
	}
	return most
}

func larger(x, y volume) int { return cmp.Compare(x.kbits(headers6), y.kbits(headers6)) }

// TestHeartbeatTraffic: each session is ten datagrams of 91 bytes a second each way, and of no
// node are they more than 1 Mbit/s, on IPv6 neither.
func TestHeartbeatTraffic(t *testing.T) {
	for _, n := range []int{2, 10, 30} {
		out := heartbeatTraffic(t, n)
		require.LessOrEqual(t, out.sessions, maxSessions)
		require.Equal(t, volume{10 * out.sessions, 10 * out.sessions * 91}, out.steady, "%d nodes", n)
		require.LessOrEqual(t, out.steady.kbits(headers6), 1000.0)
		require.Greater(t, out.starting.bytes, out.steady.bytes, "claims are told")
	}
}

// BenchmarkHeartbeatTraffic reports the same of more nodes as numbers, for docs/performance.md.
func BenchmarkHeartbeatTraffic(b *testing.B) {
	for b.Loop() {
		most := traffic{}
		for _, n := range []int{10, 100, 1000, 5000} {
			out := heartbeatTraffic(b, n)
			report := func(what string, value float64) { b.ReportMetric(value, fmt.Sprintf("%d_nodes_%s", n, what)) }
			report("sessions", float64(out.sessions))
			report("ipv4_kbits", out.steady.kbits(headers4))
			report("ipv6_kbits", out.steady.kbits(headers6))
			report("starting_kbits", out.starting.kbits(headers6))
			report("dying_kbits", out.dying.kbits(headers6))
			most.sessions = max(most.sessions, out.sessions)
			most.steady = slices.MaxFunc([]volume{most.steady, out.steady}, larger)
		}
		b.ReportMetric(float64(most.sessions), "most_sessions")
		b.ReportMetric(most.steady.kbits(headers6), "most_kbits")
	}
}
