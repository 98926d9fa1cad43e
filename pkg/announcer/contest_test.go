package announcer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// contest is a LAN of announcers in a time of its own, which remembers who announced what.
type contest struct {
	t        testing.TB
	now      time.Duration
	stations map[string]*contestant
	names    []string
	// cut has who does not hear whom. Where firewalls do that, what one announces is heard all
	// the same.
	cut       map[[2]string]bool
	firewalls bool
	// mute are the nodes that cannot send a datagram.
	mute map[string]bool
	// under are the datagrams on their way, in order.
	under []datagram
	// words are what was announced, in order.
	words []word
	// pacing is what plans say of it.
	pacing plan.Pacing
}

// contestant is an announcer on the LAN. As a wire it carries what the announcer sends.
type contestant struct {
	*Announcer
	lan     *contest
	name    string
	address netip.Addr
	ring    *failover.Keyring
	pending events
}

type datagram struct {
	due      time.Duration
	from, to string
	bytes    []byte
}

// word is what one announcer told the LAN at once.
type word struct {
	at        time.Duration
	from      string
	addresses []netip.Addr
}

const (
	hop = time.Millisecond
	// lan0 is the index of no interface of this machine.
	lan0 = 4242
)

func newContest(t testing.TB, names ...string) *contest {
	l := &contest{t: t, stations: map[string]*contestant{}, names: names, cut: map[[2]string]bool{}, mute: map[string]bool{}}
	for i, name := range names {
		s := &contestant{lan: l, name: name, address: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)})}
		l.stations[name] = s
		l.start(name)
	}
	return l
}

// start begins a life of an announcer, without a plan.
func (l *contest) start(name string) {
	s := l.stations[name]
	var v4, v6 *fakeResponder
	s.Announcer, v4, v6 = fakedOn(name, func(plan.Report) {})
	said := func(addresses []netip.Addr) {
		l.words = append(l.words, word{l.now, s.name, slices.Clone(addresses)})
		l.takePeerAnnouncements(s.name, addresses)
	}
	v4.announced, v6.announced = said, said
	s.core = newCore(name, uint64(l.now)+1)
	s.transport.network = s
	own := ifi(lan0, "lan0", s.address.String()+"/24")
	own.MAC = s.mac()
	state := links(own)
	s.pending = events{links: &state}
}

// takePeerAnnouncements brings what one announces to the others that answer for it.
func (l *contest) takePeerAnnouncements(from string, addresses []netip.Addr) {
	for _, name := range l.without(from) {
		other := l.stations[name]
		if !l.firewalls && l.cut[[2]string{from, name}] || other.Announcer == nil {
			continue
		}
		for _, address := range addresses {
			if _, listens := other.core.desired[address]; !listens || !other.claimLimit.allowsClaim(began.Add(l.now), address, l.stations[from].mac()) {
				continue
			}
			other.pending.claims = append(other.pending.claims, probe.Holder{Address: address, MAC: l.stations[from].mac().String(), Interface: "lan0"})
		}
	}
}

// mac is the hardware address of the node's interface.
func (s *contestant) mac() net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, 0, 0, s.address.As4()[3]}
}

// plan brings the nodes in to a plan.
func (l *contest) plan(to []string, set plan.NodePlan) {
	set.Failover = plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3}
	set.Pacing = l.pacing
	for _, name := range to {
		for _, peer := range l.without(name) {
			set.Failover.Peers = append(set.Failover.Peers, plan.Peer{Node: peer, Interfaces: []plan.Interface{
				{Name: "lan0", MAC: l.stations[peer].mac().String(), Prefixes: []netip.Prefix{netip.PrefixFrom(l.stations[peer].address, 24)}},
			}})
		}
		l.stations[name].pending.plans = map[string]plan.NodePlan{"r": set}
		set.Failover.Peers = nil
	}
}

// run lets time go by.
func (l *contest) run(how time.Duration) {
	for end := l.now + how; l.now < end; l.now += hop {
		due := slices.IndexFunc(l.under, func(d datagram) bool { return d.due > l.now })
		if due < 0 {
			due = len(l.under)
		}
		for _, d := range l.under[:due] {
			l.stations[d.to].hear(d)
		}
		l.under = l.under[due:]
		for _, name := range l.names {
			if l.stations[name].Announcer == nil {
				continue
			}
			l.stations[name].work(began.Add(l.now), time.Hour+l.now)
		}
	}
}

// work has the announcer do what is due.
func (s *contestant) work(now time.Time, boot time.Duration) {
	n, wake := s.pending, s.core.wakeAt()
	idle := n.links == nil && n.plans == nil && n.packets == nil && n.claims == nil && !s.core.hasPending()
	if idle && (wake.IsZero() || wake.After(now)) && s.core.failover.Wake() > boot {
		return
	}
	s.pending = events{}
	s.step(now, boot, n)
}

func (s *contestant) hear(d datagram) {
	if p, err := s.ring.Open(d.bytes); err == nil {
		s.pending.packets = append(s.pending.packets, failover.Arrival{Packet: p, Socket: failover.Socket{Index: lan0, Name: "lan0"}, Source: s.lan.stations[d.from].address})
	}
}

func (s *contestant) Set(ring *failover.Keyring, _ map[failover.Socket]bool) error {
	s.ring = ring
	return nil
}

func (s *contestant) Send(_ failover.Socket, to netip.AddrPort, bytes []byte, _ bool) error {
	if s.lan.mute[s.name] {
		return errors.New("operation not permitted")
	}
	for name, other := range s.lan.stations {
		if other.address == to.Addr() && !s.lan.cut[[2]string{s.name, name}] {
			s.lan.under = append(s.lan.under, datagram{s.lan.now + hop, s.name, name, bytes})
		}
	}
	return nil
}

func (*contestant) Drop(error)                 {}
func (*contestant) Dropped() map[string]uint64 { return nil }
func (*contestant) Close()                     {}

// isolate has node and the others not hear each other.
func (l *contest) isolate(node string) {
	for _, other := range l.without(node) {
		l.cut[[2]string{node, other}], l.cut[[2]string{other, node}] = true, true
	}
}

// without returns all nodes but one.
func (l *contest) without(node string) []string {
	return slices.DeleteFunc(slices.Clone(l.names), func(name string) bool { return name == node })
}

// owners returns who answers for address.
func (l *contest) owners(address netip.Addr) []string {
	var out []string
	for _, name := range l.names {
		if s := l.stations[name]; s.Announcer != nil && s.core.claims.Has(address) {
			out = append(out, name)
		}
	}
	return out
}

// answering returns who answers for address, which takes more than a claim.
func (l *contest) answering(address netip.Addr) []string {
	return slices.DeleteFunc(l.owners(address), func(name string) bool {
		until := l.stations[name].transport.deadline.Load()
		return until != 0 && int64(time.Hour+l.now) >= until
	})
}

// said returns when node announced address since a time.
func (l *contest) said(node string, address netip.Addr, since time.Duration) []time.Duration {
	var out []time.Duration
	for _, w := range l.words {
		if w.from == node && w.at >= since && slices.Contains(w.addresses, address) {
			out = append(out, w.at)
		}
	}
	return out
}

// runUntilNextWord lets time go by until just before node announces address again.
func (l *contest) runUntilNextWord(node string, address netip.Addr) {
	s := l.stations[node].core.schedule
	require.Zero(l.t, s.left[address], "no burst is under way")
	next, _ := s.periods.Next()
	l.run(next.Sub(began.Add(l.now)) - 5*hop)
}

// requireLastWord wants owner to be the only one to answer for address, and the last one to
// have announced it, at most limit after loser did.
func (l *contest) requireLastWord(owner, loser string, address netip.Addr, since, limit time.Duration) {
	l.t.Helper()
	require.Equal(l.t, []string{owner}, l.owners(address))
	wrong, right := l.said(loser, address, since), l.said(owner, address, since)
	require.NotEmpty(l.t, wrong, "the scenario is about what %s says", loser)
	last := wrong[len(wrong)-1]
	after := slices.IndexFunc(right, func(at time.Duration) bool { return at > last })
	require.GreaterOrEqual(l.t, after, 0, "%s said %v, %s %v", loser, wrong, owner, right)
	require.LessOrEqual(l.t, right[after]-last, limit)
	require.GreaterOrEqual(l.t, len(right)-after, burst-1, "hosts may not have taken in the first")
}

// begin has node0 answer for addresses, node1 and node2 are backups, and the bursts end.
func (l *contest) begin(addresses ...string) {
	var lists []string
	for _, a := range addresses {
		lists = append(lists, a+"=node0,node1,node2")
	}
	l.plan(l.names, nodePlan(1, lists...))
	l.run(10 * time.Second)
}

var contested = ip("192.0.2.200")

// TestWhoYieldsDoesNotHaveTheLastWord: two nodes that did not hear each other answer for an
// address, and the one that yields announces it after the other one did. Where that one hears
// first it yields before it is heard.
func TestWhoYieldsDoesNotHaveTheLastWord(t *testing.T) {
	for name, test := range map[string]struct {
		cut          string
		replan       string // what the others are told meanwhile
		hearsFirst   bool
		owner, loser string
	}{
		"the owner was cut off":                   {"node0", "", false, "node1", "node0"},
		"the owner was cut off and hears first":   {"node0", "", true, "node1", "node0"},
		"the owner was cut off and is in no list": {"node0", "node1,node2", true, "node1", "node0"},
		"a backup was cut off":                    {"node1", "", false, "node0", "node1"},
		"a backup was cut off and hears":          {"node1", "", true, "node0", "node1"},
		"a backup was cut off and is no more":     {"node1", "node0,node2", true, "node0", "node1"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newContest(t, "node0", "node1", "node2")
			l.begin(contested.String())
			l.isolate(test.cut)
			l.run(time.Second)
			require.Equal(t, []string{"node0", "node1"}, l.owners(contested))
			if test.replan != "" {
				l.plan(l.without(test.cut), nodePlan(2, contested.String()+"="+test.replan))
			}
			l.run(10 * time.Second)
			l.runUntilNextWord(test.loser, contested)
			healed := l.now
			if test.hearsFirst {
				for _, other := range l.without(test.loser) {
					delete(l.cut, [2]string{other, test.loser})
				}
				l.run(150 * time.Millisecond)
			}
			clear(l.cut)
			l.run(10 * time.Second)
			l.requireLastWord(test.owner, test.loser, contested, healed, 400*time.Millisecond)
		})
	}
}

// TestBlockedHeartbeats: a firewall lets nothing pass that a node and the others say to each other. The
// next in the list takes over, as it cannot know better, and both learn by what is announced that the
// other goes on. The one that hears no node yields.
func TestBlockedHeartbeats(t *testing.T) {
	for _, test := range []struct{ blocked, owner, loser string }{
		{"node0", "node1", "node0"},
		{"node1", "node0", "node1"},
	} {
		t.Run(test.blocked, func(t *testing.T) {
			l := newContest(t, "node0", "node1", "node2")
			l.firewalls = true
			l.begin(contested.String())
			l.isolate(test.blocked)
			from := l.now
			for until := l.now + 5*time.Second; l.now < until; l.run(hop) {
				if len(l.said("node1", contested, from)) > 0 {
					break
				}
			}
			l.run(300 * time.Millisecond) // Its packets might only be late.
			require.Equal(t, []string{test.owner}, l.owners(contested))
			l.run(10 * time.Second)
			l.requireLastWord(test.owner, test.loser, contested, from, 250*time.Millisecond)
			require.Len(t, l.said(test.loser, contested, from), 1)
			clear(l.cut)
			l.run(5 * time.Second)
			require.Equal(t, []string{test.owner}, l.owners(contested))
			require.Len(t, l.said(test.loser, contested, from), 1)
		})
	}
}

// TestAThousandContested: what a peer may have announced is announced together, as in any
// burst, and only that.
func TestAThousandContested(t *testing.T) {
	var addresses []string
	for i := range 1000 {
		addresses = append(addresses, fmt.Sprintf("192.0.%d.%d", 3+i/250, 1+i%250))
	}
	l := newContest(t, "node0", "node1", "node2")
	l.pacing = swiftly
	l.begin(addresses...)
	l.isolate("node1")
	l.run(20 * time.Second)
	clear(l.cut)
	healed := l.now
	l.run(20 * time.Second)
	bursts, said := 0, 0
	for _, w := range l.words {
		if w.from != "node0" || w.at < healed {
			continue
		}
		if said += len(w.addresses); len(w.addresses) > 100 {
			bursts++
		}
	}
	// The claims to a thousand are told in 30 datagrams, which arrive together.
	require.LessOrEqual(t, bursts, 2*burst)
	require.GreaterOrEqual(t, said, burst*len(addresses))
	require.LessOrEqual(t, said, burst*len(addresses)+len(addresses), "with those that were due anyway")
}

// TestHeartbeatsAreNotAnnounced: an address that nobody contests is announced once a period,
// each backup, starts and ends.
func TestHeartbeatsAreNotAnnounced(t *testing.T) {
	l := newContest(t, "node0", "node1", "node2")
	l.begin(contested.String())
	from := l.now
	for range 5 {
		l.run(period)
		l.stations["node1"].leaveSegments(began.Add(l.now))
		l.run(time.Second)
		l.start("node1")
		l.plan([]string{"node1"}, nodePlan(1, contested.String()+"=node0,node1,node2"))
	}
	require.LessOrEqual(t, len(l.said("node0", contested, from)), 7)
	require.Empty(t, l.said("node1", contested, from))
}

// TestAFlappingPeer: however often a peer comes and goes, an address is announced no more
// often than in a burst.
func TestAFlappingPeer(t *testing.T) {
	l := newContest(t, "node0", "node1", "node2")
	l.begin(contested.String())
	from := l.now
	for range 20 {
		l.isolate("node2")
		l.run(400 * time.Millisecond)
		clear(l.cut)
		l.run(400 * time.Millisecond)
	}
	said := l.said("node0", contested, from)
	require.Greater(t, len(said), 10)
	for i, at := range said[1:] {
		require.GreaterOrEqual(t, at-said[i], burstInterval)
	}
}
