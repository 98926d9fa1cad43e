package announcer

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/link"
	"baremetal.cloud/ccm/pkg/announcer/sight"
)

// naive is what an announcer comes to that looks at all of its plan at each turn.
type naive struct {
	ports    map[family]map[string][]netip.Addr
	answers  map[netip.Addr]string
	claims   []announcement.Claim
	problems []announcement.Problem
	standby  int
	carriers carriers
}

// work computes the whole of what a core comes to, from its plan, its interfaces, what
// sight claims, and which sockets failed.
func work(c *core) naive {
	n := naive{ports: map[family]map[string][]netip.Addr{ipv4: {}, ipv6: {}}, answers: map[netip.Addr]string{}, carriers: carriers{}}
	if c.links == nil {
		return n
	}
	s := newSegments(c.node, *c.links, c.set.Sight.Peers, c.set.BGP.Peers)
	for a := range c.set.Announcements.All() {
		o := s.option(a)
		for _, i := range o.interfaces {
			for _, peer := range append([]string{""}, a.Candidates...) {
				if n.carriers[peer] == nil {
					n.carriers[peer] = map[string]int{}
				}
				n.carriers[peer][i.Name]++
			}
		}
		if failing, ok := c.failing[a.Address]; ok && o.problem == nil {
			o.problem = &failing
		}
		if o.problem == nil {
			o.mute = c.muted(o)
		}
		switch stamp := c.sight.Claim(a.Address); {
		case !stamp.IsZero():
			n.claims = append(n.claims, announcement.Claim{Address: a.Address, Stamp: stamp})
			where := ""
			for _, i := range o.interfaces {
				key := fmt.Sprint(i.Index, i.Name, i.MAC)
				n.ports[familyOf(a.Address)][key] = append(n.ports[familyOf(a.Address)][key], a.Address)
				if c.failed[familyOf(a.Address)][i.Index] == nil {
					where += i.Name + " "
				}
			}
			n.answers[a.Address] = where
		case cmp.Or(o.problem, o.mute) != nil && slices.Contains(o.Candidates, c.node):
			n.problems = append(n.problems, *cmp.Or(o.problem, o.mute))
		default:
			n.standby++
		}
	}
	return n
}

// requireWhole checks that an announcer came to the same.
func requireWhole(t *testing.T, a *Announcer, responders map[family]*fakeResponder, reported announcement.Report, at string) {
	t.Helper()
	c := a.core
	n := work(c)
	for f, r := range responders {
		got := map[string][]netip.Addr{}
		for _, p := range r.ports {
			for address := range p.Addresses.All() {
				key := fmt.Sprint(p.Index, p.Name, p.MAC)
				got[key] = append(got[key], address.At())
			}
		}
		require.Equal(t, n.ports[f], got, at)
	}
	answers := map[netip.Addr]string{}
	for claim := range c.claims.All() {
		for _, name := range slices.Sorted(maps.Keys(map[string]bool{"absent0": true, "absent1": true})) {
			if slices.Contains(splitNames(claim.Interfaces), name) {
				answers[claim.Address] += name + " "
			}
		}
	}
	require.Equal(t, n.answers, answers, at)
	require.Equal(t, announcement.NewIndex(n.claims...), c.claimed, at)
	require.Equal(t, n.problems, slices.Collect(c.problems.All()), at)
	require.Equal(t, n.standby, c.standby(), at)
	require.Equal(t, n.carriers, c.carriers, at)
	status := a.Status()
	require.Equal(t, c.claims, status.Claims)
	require.Equal(t, n.standby, status.Standby)
	if c.links != nil {
		require.True(t, reported.Equal(announcement.Report{
			Plan: c.set.Stamp, Highest: c.set.Stamp, Cluster: c.set.Cluster, Claims: c.claimed, Problems: n.problems,
			Interfaces: c.links.Report(), Down: c.sight.Peers(sight.Down),
		}), "%s: reported %+v", at, reported)
	}
	total := 0
	for _, cause := range StartCauses() {
		total += int(status.ClaimsStarted[cause])
	}
	for _, cause := range EndCauses() {
		total -= int(status.ClaimsEnded[cause])
	}
	require.Equal(t, c.claims.Len(), total, "%s: started %v, ended %v", at, status.ClaimsStarted, status.ClaimsEnded)
	scheduled := 0
	for address := range c.schedule.left {
		require.True(t, c.claims.Has(address), at)
		scheduled++
	}
	require.Equal(t, c.claims.Len(), scheduled, at)
}

func splitNames(names string) []string {
	var out []string
	for len(names) > 0 {
		name := names[:min(len("absent0"), len(names))]
		out, names = append(out, name), names[min(len("absent0, "), len(names)):]
	}
	return out
}

// TestIncrementalAgainstWhole: after any change an announcer, which looks only at what
// changed, has come to what looking at everything comes to.
func TestIncrementalAgainstWhole(t *testing.T) {
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 0))
		var reported announcement.Report
		a, v4, v6 := faked(func(r announcement.Report) { reported = r })
		p := &player{random: random, seq: map[string]uint64{}}
		now, boot := began, time.Hour
		for step := range 50 {
			pause := time.Duration(random.IntN(150)) * time.Millisecond
			now, boot = now.Add(pause), boot+pause
			n, what := p.news(a.core)
			if random.IntN(8) == 0 {
				v4.failed, v6.failed = p.failures(), p.failures()
				a.core.socketFailed(now)
			}
			hesitate := func() {
				if seed%2 == 1 {
					a.core.pace = 8
					a.core.sight.Pace(1)
				}
			}
			hesitate()
			a.turn(now, boot, n)
			carried := a.core.plan == a.core.set.Stamp
			for turns := 0; a.core.pending() || a.core.sight.Busy(); turns++ {
				require.Less(t, turns, 2000, "it comes to an end")
				undecided := a.core.sight.Undecided()
				hesitate()
				a.turn(now, boot, news{})
				reached := a.core.plan == a.core.set.Stamp
				require.False(t, carried && !reached, "what was carried out stays so")
				require.False(t, reached && !carried && undecided && a.core.sight.Undecided(), "it is not carried out yet")
				carried = reached
			}
			at := fmt.Sprintf("seed %d, step %d: %s", seed, step, what)
			requireWhole(t, a, map[family]*fakeResponder{ipv4: v4, ipv6: v6}, reported, at)
		}
		a.close()
	}
}

// player makes things happen.
type player struct {
	random *rand.Rand
	set    announcement.Set
	seq    map[string]uint64
}

// news is one of the things that happen.
func (p *player) news(c *core) (news, string) {
	switch p.random.IntN(6) {
	case 0:
		state := p.links()
		return news{links: &state}, "links"
	case 1, 2, 3:
		set := p.replan()
		return news{plans: map[string]announcement.Set{"r": set}}, "plan"
	default:
		return news{packets: p.packets(c)}, "packets"
	}
}

func (p *player) links() link.Snapshot {
	var out []link.Interface
	for i, name := range []string{"absent0", "absent1"} {
		if p.random.IntN(8) == 0 {
			continue
		}
		state := ifi(2+i+10*p.random.IntN(2), name, fmt.Sprintf("10.0.%d.10/24", i), fmt.Sprintf("2001:db8:%d::10/64", i))
		state.MAC = net.HardwareAddr{2, 0, 0, 0, byte(p.random.IntN(2)), byte(i)}
		state.Running = p.random.IntN(8) > 0
		out = append(out, state)
	}
	return links(out...)
}

// replan changes a few of the addresses, now and then many, and sometimes the peers. Now
// and then it makes the same plan anew, as another replica does.
func (p *player) replan() announcement.Set {
	p.set.Cluster = "c"
	p.set.Stamp = announcement.Stamp{Term: 1, Revision: p.set.Stamp.Revision + 1}
	changes := 1 + p.random.IntN(3)
	if p.random.IntN(6) == 0 {
		changes = 150
	}
	for range changes {
		address := netip.AddrFrom4([4]byte{10, 0, byte(p.random.IntN(3)), byte(p.random.IntN(80))})
		if p.random.IntN(3) == 0 {
			address = netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::%x", p.random.IntN(3), p.random.IntN(12)))
		}
		if p.random.IntN(3) == 0 {
			p.set.Announcements = p.set.Announcements.Without(address)
			continue
		}
		names := []string{"node0", "node1", "node2"}
		p.random.Shuffle(3, func(i, j int) { names[i], names[j] = names[j], names[i] })
		p.set.Announcements = p.set.Announcements.With(announcement.Announcement{
			Address: address, Stamp: p.set.Stamp, Candidates: names[:1+p.random.IntN(3)],
			Interface: []string{"", "", "/absent.*/", "absent1"}[p.random.IntN(4)],
		})
	}
	if p.random.IntN(5) == 0 {
		p.watch()
	}
	set := p.set
	if p.random.IntN(4) == 0 {
		set.Announcements = announcement.NewIndex(slices.Collect(set.Announcements.All())...)
	}
	return set
}

// watch changes whom the node watches, if anybody.
func (p *player) watch() {
	p.set.Sight = announcement.Sight{}
	if p.random.IntN(4) == 0 {
		return
	}
	p.set.Sight = announcement.Sight{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3}
	for i, name := range []string{"node1", "node2"} {
		p.set.Sight.Peers = append(p.set.Sight.Peers, announcement.Peer{Node: name, Interfaces: []announcement.Interface{
			{Name: "absent0", Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(p.random.IntN(2)), byte(1 + i)}), 24)}},
		}})
	}
}

// packets are what peers say of what they claim.
func (p *player) packets(c *core) []sight.Arrival {
	var out []sight.Packet
	for _, name := range []string{"node1", "node2"} {
		p.seq[name]++
		packet := sight.Packet{
			From: name, Boot: 2, Seq: p.seq[name], Heard: sight.Echo{Boot: 1, Seq: p.heard(c)}, Hears: p.random.IntN(6) > 0,
			Detect: 300 * time.Millisecond, Leave: p.random.IntN(20) == 0,
		}
		if p.random.IntN(3) == 0 {
			packet.Part = &sight.Part{Range: true}
			var digest sight.Digest
			for a := range c.set.Announcements.All() {
				if p.random.IntN(4) == 0 {
					claim := announcement.Claim{Address: a.Address, Stamp: a.Stamp}
					packet.Part.Claims = append(packet.Part.Claims, claim)
					digest.Toggle(claim)
				}
			}
			packet.Digest = digest
		}
		out = append(out, packet)
	}
	return arrivals(out...)
}

// arrivals are packets of which nothing more is known.
func arrivals(packets ...sight.Packet) []sight.Arrival {
	var out []sight.Arrival
	for _, p := range packets {
		out = append(out, sight.Arrival{Packet: p})
	}
	return out
}

// heard is a number of the node's own packets that a peer may echo.
func (p *player) heard(c *core) uint64 {
	for _, out := range c.sight.Flush(0) {
		return out.Packet.Seq
	}
	return 1
}

func (p *player) failures() map[int]error {
	out := map[int]error{}
	for _, index := range []int{2, 3, 12, 13} {
		if p.random.IntN(4) == 0 {
			out[index] = errors.New("no buffers")
		}
	}
	return out
}
