package announcer

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// said is what left the node at once.
type said struct {
	at time.Time
	n  int
}

// mostIn returns the most frames that left within a span of how.
func mostIn(words []said, how time.Duration) (most int) {
	for i, first := range words {
		n := 0
		for _, w := range words[i:] {
			if w.at.Sub(first.at) < how {
				n += w.n
			}
		}
		most = max(most, n)
	}
	return most
}

// addressesFrom returns so many.
func addressList(count int) []netip.Addr {
	var out []netip.Addr
	for address := ip("10.0.0.1"); len(out) < count; address = address.Next() {
		out = append(out, address)
	}
	return out
}

func fifty(fourth byte, family string) []netip.Addr {
	var out []netip.Addr
	for i := range byte(50) {
		if family == "IPv6" {
			out = append(out, netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: fourth, 15: i}))
		} else {
			out = append(out, netip.AddrFrom4([4]byte{192, 0, 2, fourth + i}))
		}
	}
	return out
}

// TestFault_K1_9_AnnouncementsArePaced: a node that takes over fifty addresses announces each of
// them once, at once. What follows keeps to the cloud-config's burst within any interval, and each
// address is announced as often as it says, in each form.
func TestFault_K1_9_AnnouncementsArePaced(t *testing.T) {
	for family, forms := range map[string]int{"IPv4": 2, "IPv6": 1} {
		t.Run(family, func(t *testing.T) {
			pacing := plan.Pacing{Burst: 12, Interval: time.Second, Repeat: 3, Refresh: 10 * time.Minute}
			a, v4, v6 := faked(func(plan.Report) {})
			a.core.frames.pacing, a.core.schedule.pacing = pacing, pacing
			var words []said
			now := began
			say := func(addresses []netip.Addr) { words = append(words, said{now, len(addresses)}) }
			v4.announced, v4.otherwise, v6.announced = say, say, say
			for _, address := range fifty(0, family) {
				a.core.schedule.startBurst(address, now)
			}
			total := func() (n int) {
				for _, w := range words {
					n += w.n
				}
				return n
			}
			a.announceDue(now)
			require.Equal(t, 50, total(), "the first ones are never held back")
			words = nil
			for end := now.Add(2 * time.Minute); now.Before(end); {
				if a.otherwise.Len() > 0 {
					now = laterTime(now.Add(time.Millisecond), a.core.frames.freeAt(1, a.core.reservedFrames()))
				} else {
					now = a.core.wakeAt()
				}
				if now.Before(end) {
					a.announceDue(now)
				}
			}
			require.LessOrEqual(t, mostIn(words, pacing.Interval), pacing.Burst)
			require.Equal(t, 50*(forms*pacing.Repeat-1), total())
		})
	}
}

// asksFor has a node with that pacing ask for addresses before it takes them over, and returns what
// leaves when, while others are to be repeated all the time.
func asksFor(t *testing.T, pacing plan.Pacing, addresses []netip.Addr) (words []said) {
	t.Helper()
	a, _, _ := faked(func(plan.Report) {})
	c := a.core
	c.frames.pacing, c.schedule.pacing, c.takeoverProbes.frames.pacing = pacing, pacing, pacing
	for _, address := range fifty(200, "IPv4") {
		c.schedule.repeatBurst(address, began)
	}
	for _, address := range addresses {
		c.takeoverProbes.Add(address)
	}
	asked, now := 0, began
	for ; c.takeoverProbes.Len() > 0; now = laterTime(now.Add(time.Millisecond), c.takeoverProbes.freeAt()) {
		a.announceDue(now)
		if n := len(c.takeUnasked(time.Hour, now)); n > 0 {
			words = append(words, said{now, n * probeFrames})
			asked += n
		}
	}
	require.Equal(t, len(addresses), asked)
	return words
}

// TestFault_K1_9_ProbesBeforeATakeover: nobody answers for an address that is asked for first. A
// thousand of them take a second, whatever else is to be announced, at a bounded rate. A few keep to
// what switches allow that limit ARP.
func TestFault_K1_9_ProbesBeforeATakeover(t *testing.T) {
	limited := plan.Pacing{Burst: 10, Interval: 1100 * time.Millisecond, Repeat: 5, Refresh: time.Minute}
	for name, pacing := range map[string]plan.Pacing{"default": plan.DefaultPacing(), "a switch that limits ARP": limited} {
		t.Run(name, func(t *testing.T) {
			few := asksFor(t, pacing, addressList(1000)[:fewUnasked])
			require.LessOrEqual(t, mostIn(few, pacing.Interval), pacing.Burst)
			for n, longest := range map[int]time.Duration{50: time.Second, 334: time.Second, 1000: time.Second} {
				many := asksFor(t, pacing, addressList(1000)[:n])
				require.LessOrEqual(t, many[len(many)-1].at.Sub(began), longest)
				require.LessOrEqual(t, mostIn(many, crowdPause), max(pacing.Burst, probeFrames*(n+crowdParts)/crowdParts))
			}
		})
	}
	huge := asksFor(t, limited, addressList(20000))
	require.LessOrEqual(t, mostIn(huge, crowdPause), probeFrames*crowdMost)
	require.LessOrEqual(t, mostIn(huge, time.Second), int(time.Second/crowdPause)*probeFrames*crowdMost)
}

// TestFault_K1_9_ClaimedMeanwhile: an address that a peer claims by the time that its turn comes is not
// asked for.
func TestFault_K1_9_ClaimedMeanwhile(t *testing.T) {
	const boot = time.Hour
	kept := nodePlan(5, "192.0.2.200=a,b", "192.0.2.201=a,b")
	kept.Failover = plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []plan.Peer{{Node: "b"}}}
	c := restored(t, kept)
	require.True(t, c.resumePlan(boot+leaderWaitLimit))
	turn(c, began, nil)
	require.Len(t, c.failover.TakeProbes(), 2)
	for claim := range kept.Assignments.All() {
		c.takeoverProbes.Add(claim.Address)
	}
	claim := plan.Claim{Address: ip("192.0.2.200"), Version: kept.Version}
	var digest failover.Digest
	digest.Toggle(claim)
	c.failover.Flush(boot)
	require.NoError(t, c.failover.Receive(boot, failover.Packet{
		From: "b", Incarnation: 2, Seq: 1, Heard: failover.Echo{Incarnation: 1, Seq: 1}, Hears: true, Detect: time.Minute,
		Digest: digest, Part: &failover.Part{Range: true, Claims: []plan.Claim{claim}},
	}))
	require.Equal(t, []netip.Addr{ip("192.0.2.201")}, c.takeUnasked(boot, began))
	c.failover.SetProbeResults(boot, []netip.Addr{ip("192.0.2.201")}, nil)
	c.reconcileClaims(boot + c.failover.Detect()) // Until then it listens.
	require.True(t, c.failover.Claim(ip("192.0.2.200")).IsZero())
	require.False(t, c.failover.Claim(ip("192.0.2.201")).IsZero())
}

// TestFault_K1_9_ProbesArePaced: fifty addresses of a pool do not send 150 probes in 0.2 s.
func TestFault_K1_9_ProbesArePaced(t *testing.T) {
	c := newCore("node0", 1)
	c.frames.pacing.Burst = 60
	var words []said
	now, boot := began, time.Hour
	var ahead plan.Probing
	for _, address := range fifty(100, "IPv4") {
		ahead.Probes = append(ahead.Probes, plan.Probe{Address: address})
	}
	ahead.Interval = time.Hour
	c.conflicts.setProbing(boot, ahead)
	probed := 0
	for range 10000 {
		due := c.conflicts.takeDue(boot, c.frames.roomFor(now, 0)/probeFrames)
		probed += len(due)
		c.frames.spendFrames(now, len(due)*probeFrames)
		if n := len(due); n > 0 {
			words = append(words, said{now, n * probeFrames})
			c.conflicts.takeAnswer(boot, now, due, nil, false)
		}
		now, boot = now.Add(10*time.Millisecond), boot+10*time.Millisecond
	}
	require.Equal(t, 50, probed)
	require.LessOrEqual(t, mostIn(words, c.frames.pacing.Interval), 60)
}

// TestFault_K1_9_NothingStarves: where announcements alone would use up all that may leave,
// probes of a pool get their part.
func TestFault_K1_9_NothingStarves(t *testing.T) {
	a, _, _ := faked(func(plan.Report) {})
	c := a.core
	pacing := plan.Pacing{Burst: 5, Interval: time.Second, Repeat: 100, Refresh: 10 * time.Second}
	c.frames.pacing, c.schedule.pacing = pacing, pacing
	now, boot := began, time.Hour
	for _, address := range fifty(0, "IPv4") {
		c.schedule.repeatBurst(address, now)
	}
	ahead := plan.Probing{Interval: time.Hour}
	for _, address := range fifty(100, "IPv4")[:5] {
		ahead.Probes = append(ahead.Probes, plan.Probe{Address: address})
	}
	c.conflicts.setProbing(boot, ahead)
	probed := 0
	for end := now.Add(time.Minute); now.Before(end) && probed < 5; now, boot = now.Add(50*time.Millisecond), boot+50*time.Millisecond {
		if due := c.conflicts.takeDue(boot, c.frames.roomFor(now, 0)/probeFrames); len(due) > 0 {
			probed += len(due)
			c.frames.spendFrames(now, len(due)*probeFrames)
			c.conflicts.takeAnswer(boot, now, due, nil, false)
		}
		a.announceDue(now)
	}
	require.Equal(t, 5, probed)
}

// TestFault_K1_9_TheFirstOneNeverWaits: not where the LAN says meanwhile that another node has the
// address, nor where a stranger claims it.
func TestFault_K1_9_TheFirstOneNeverWaits(t *testing.T) {
	s := newSchedule()
	address := ip("192.0.2.200")
	s.startBurst(address, began)
	s.repeatBurst(address, began)
	s.announceOnce(address, began)
	require.Equal(t, []netip.Addr{address}, s.takeFirst(began, 1))
	require.Equal(t, s.pacing.Repeat-1, s.left[address])
	require.Equal(t, began.Add(s.pacing.Interval), s.nextDue())
	s.repeatBurst(address, began)
	require.Empty(t, s.takeFirst(began, 1))
	require.Equal(t, []netip.Addr{address}, s.takeRepeats(began, 1))
}

// TestFault_K1_9_ARegainedAddressIsNotHeldBack: a peer may have told the LAN that it has an address,
// while a thousand others of this node wait to be repeated. It is announced as soon as an interval
// has passed since the last time, and no sooner, however often that is said.
func TestFault_K1_9_ARegainedAddressIsNotHeldBack(t *testing.T) {
	a, v4, _ := faked(func(plan.Report) {})
	pacing := plan.Pacing{Burst: 12, Interval: time.Second, Repeat: 5, Refresh: time.Minute}
	a.core.frames.pacing, a.core.schedule.pacing = pacing, pacing
	for _, address := range addressList(1000) {
		a.core.schedule.startBurst(address, began)
	}
	now, regained := began, addressList(1000)[700]
	var times []time.Duration
	v4.announced = func(addresses []netip.Addr) {
		if slices.Contains(addresses, regained) {
			times = append(times, now.Sub(began))
		}
	}
	for ; now.Before(began.Add(2500 * time.Millisecond)); now = now.Add(10 * time.Millisecond) {
		a.announceDue(now)
		if now.Sub(began) == 1500*time.Millisecond {
			require.Len(t, times, 1, "the others are repeated first")
		}
		if now.Sub(began) >= 1500*time.Millisecond {
			a.core.schedule.renewBurst(regained, now)
		}
	}
	require.Len(t, times, 2)
	require.Equal(t, 1510*time.Millisecond, times[1])
	require.Equal(t, 2510*time.Millisecond, a.core.wakeAt().Sub(began))
}

// TestFault_K1_4_WhatFindsNoRoomIsSentSoon: a first announcement for which the interface had no room
// is tried again before all others are repeated, and counts as the first.
func TestFault_K1_4_WhatFindsNoRoomIsSentSoon(t *testing.T) {
	a, v4, _ := faked(func(plan.Report) {})
	announced := 0
	v4.announced = func(addresses []netip.Addr) { announced += len(addresses) }
	for _, address := range fifty(0, "IPv4") {
		a.core.schedule.startBurst(address, began)
	}
	v4.full = true
	now := began
	for range 10 {
		a.announceDue(now)
		require.Equal(t, now.Add(sendAgain), a.core.wakeAt())
		now = a.core.wakeAt()
	}
	v4.full = false
	a.announceDue(now)
	require.Equal(t, 50, announced)
	for _, address := range fifty(0, "IPv4") {
		require.Equal(t, a.core.schedule.pacing.Repeat-1, a.core.schedule.left[address])
	}
}

func TestFrames(t *testing.T) {
	f := newFrames()
	f.pacing = plan.Pacing{Burst: 10, Interval: time.Second}
	require.Equal(t, 10, f.roomFor(began, 0))
	require.True(t, f.freeAt(10, 0).IsZero())
	f.spendFrames(began, 4)
	f.spendFrames(began.Add(100*time.Millisecond), 6)
	require.Zero(t, f.roomFor(began.Add(time.Second-1), 0))
	require.Equal(t, began.Add(time.Second), f.freeAt(1, 0))
	require.Equal(t, began.Add(1100*time.Millisecond), f.freeAt(1, 4))
	require.Equal(t, 4, f.roomFor(began.Add(time.Second), 0))
	require.Equal(t, 1, f.roomFor(began.Add(time.Second), 3))
	f.spendFrames(began.Add(time.Second), 3000) // takeovers
	require.Zero(t, f.roomFor(began.Add(time.Second), 0))
	require.Equal(t, 10, f.roomFor(began.Add(-time.Hour), 0), "the clock was set back")
	require.Zero(t, f.total)
}
