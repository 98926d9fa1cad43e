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

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// naive is what an announcer comes to that looks at all of its plan at each turn.
type naive struct {
	ports    map[family]map[string][]netip.Addr
	answers  map[netip.Addr]string
	claims   []plan.Claim
	problems []plan.Problem
	standby  int
	carriers peerInterfaces
}

// work computes the whole of what a core comes to, from its plan, its interfaces, what
// sight claims, and which sockets failed.
func work(c *core) naive {
	n := naive{ports: map[family]map[string][]netip.Addr{ipv4: {}, ipv6: {}}, answers: map[netip.Addr]string{}, carriers: peerInterfaces{}}
	if c.links == nil {
		return n
	}
	s := newSubnets(c.node, *c.links, c.nodePlan.Failover.Peers, c.nodePlan.BGP.Peers)
	for a := range c.nodePlan.Assignments.All() {
		o := s.optionFor(a)
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
			o.mute = c.mutedProblem(o)
		}
		switch version := c.failover.Claim(a.Address); {
		case !version.IsZero():
			n.claims = append(n.claims, plan.Claim{Address: a.Address, Version: version})
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
func requireWhole(t *testing.T, a *Announcer, responders map[family]*fakeResponder, reported plan.Report, at string) {
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
	require.Equal(t, plan.NewIndex(n.claims...), c.claimed, at)
	require.Equal(t, n.problems, slices.Collect(c.problems.All()), at)
	require.Equal(t, n.standby, c.backupCount(), at)
	require.Equal(t, n.carriers, c.peerInterfaces, at)
	status := a.Status()
	require.Equal(t, c.claims, status.Claims)
	require.Equal(t, n.standby, status.Backup)
	if c.links != nil {
		require.True(t, reported.Equal(plan.Report{
			Plan: c.nodePlan.Version, Highest: c.nodePlan.Version, Cluster: c.nodePlan.Cluster, Claims: c.claimed, Problems: n.problems,
			Interfaces: c.links.Report(), Down: c.failover.Peers(failover.Down),
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
		var reported plan.Report
		a, v4, v6 := faked(func(r plan.Report) { reported = r })
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
					a.core.batchSize = 8
					a.core.failover.SetBatchSize(1)
				}
			}
			hesitate()
			a.step(now, boot, n)
			carried := a.core.appliedVersion == a.core.nodePlan.Version
			for turns := 0; a.core.hasPending() || a.core.failover.Busy(); turns++ {
				require.Less(t, turns, 2000, "it comes to an end")
				undecided := a.core.failover.Undecided()
				hesitate()
				a.step(now, boot, events{})
				reached := a.core.appliedVersion == a.core.nodePlan.Version
				require.False(t, carried && !reached, "what was carried out stays so")
				require.False(t, reached && !carried && undecided && a.core.failover.Undecided(), "it is not carried out yet")
				carried = reached
			}
			at := fmt.Sprintf("seed %d, step %d: %s", seed, step, what)
			requireWhole(t, a, map[family]*fakeResponder{ipv4: v4, ipv6: v6}, reported, at)
		}
		a.closeAll()
	}
}

// player makes things happen.
type player struct {
	random *rand.Rand
	set    plan.NodePlan
	seq    map[string]uint64
}

// news is one of the things that happen.
func (p *player) news(c *core) (events, string) {
	switch p.random.IntN(6) {
	case 0:
		state := p.links()
		return events{links: &state}, "links"
	case 1, 2, 3:
		set := p.replan()
		return events{plans: map[string]plan.NodePlan{"r": set}}, "plan"
	default:
		return events{packets: p.packets(c)}, "packets"
	}
}

func (p *player) links() netstate.Snapshot {
	var out []netstate.Interface
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
func (p *player) replan() plan.NodePlan {
	p.set.Cluster = "c"
	p.set.Version = plan.Version{Term: 1, Revision: p.set.Version.Revision + 1}
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
			p.set.Assignments = p.set.Assignments.Without(address)
			continue
		}
		names := []string{"node0", "node1", "node2"}
		p.random.Shuffle(3, func(i, j int) { names[i], names[j] = names[j], names[i] })
		p.set.Assignments = p.set.Assignments.With(plan.Assignment{
			Address: address, Version: p.set.Version, Candidates: names[:1+p.random.IntN(3)],
			Interface: []string{"", "", "/absent.*/", "absent1"}[p.random.IntN(4)],
		})
	}
	if p.random.IntN(5) == 0 {
		p.watch()
	}
	set := p.set
	if p.random.IntN(4) == 0 {
		set.Assignments = plan.NewIndex(slices.Collect(set.Assignments.All())...)
	}
	return set
}

// watch changes whom the node watches, if anybody.
func (p *player) watch() {
	p.set.Failover = plan.Failover{}
	if p.random.IntN(4) == 0 {
		return
	}
	p.set.Failover = plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3}
	for i, name := range []string{"node1", "node2"} {
		p.set.Failover.Peers = append(p.set.Failover.Peers, plan.Peer{Node: name, Interfaces: []plan.Interface{
			{Name: "absent0", Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(p.random.IntN(2)), byte(1 + i)}), 24)}},
		}})
	}
}

// packets are what peers say of what they claim.
func (p *player) packets(c *core) []failover.Arrival {
	var out []failover.Packet
	for _, name := range []string{"node1", "node2"} {
		p.seq[name]++
		packet := failover.Packet{
			From: name, Incarnation: 2, Seq: p.seq[name], Heard: failover.Echo{Incarnation: 1, Seq: p.heard(c)}, Hears: p.random.IntN(6) > 0,
			Detect: 300 * time.Millisecond, Leave: p.random.IntN(20) == 0,
		}
		if p.random.IntN(3) == 0 {
			packet.Part = &failover.Part{Range: true}
			var digest failover.Digest
			for a := range c.nodePlan.Assignments.All() {
				if p.random.IntN(4) == 0 {
					claim := plan.Claim{Address: a.Address, Version: a.Version}
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
func arrivals(packets ...failover.Packet) []failover.Arrival {
	var out []failover.Arrival
	for _, p := range packets {
		out = append(out, failover.Arrival{Packet: p})
	}
	return out
}

// heard is a number of the node's own packets that a peer may echo.
func (p *player) heard(c *core) uint64 {
	for _, out := range c.failover.Flush(0) {
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
