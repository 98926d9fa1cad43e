package announcer

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/sight"
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
			pacing := announcement.Pacing{Burst: 12, Interval: time.Second, Repeat: 3, Refresh: 10 * time.Minute}
			a, v4, v6 := faked(func(announcement.Report) {})
			a.core.frames.pacing, a.core.schedule.pacing = pacing, pacing
			var words []said
			now := began
			say := func(addresses []netip.Addr) { words = append(words, said{now, len(addresses)}) }
			v4.announced, v4.otherwise, v6.announced = say, say, say
			for _, address := range fifty(0, family) {
				a.core.schedule.start(address, now)
			}
			total := func() (n int) {
				for _, w := range words {
					n += w.n
				}
				return n
			}
			a.announce(now)
			require.Equal(t, 50, total(), "the first ones are never held back")
			words = nil
			for end := now.Add(2 * time.Minute); now.Before(end); {
				if a.otherwise.Len() > 0 {
					now = later(now.Add(time.Millisecond), a.core.frames.free(1, a.core.reserved()))
				} else {
					now = a.core.wake()
				}
				if now.Before(end) {
					a.announce(now)
				}
			}
			require.LessOrEqual(t, mostIn(words, pacing.Interval), pacing.Burst)
			require.Equal(t, 50*(forms*pacing.Repeat-1), total())
		})
	}
}

// asksFor has a node with that pacing ask for addresses before it takes them over, and returns what
// leaves when, while others are to be repeated all the time.
func asksFor(t *testing.T, pacing announcement.Pacing, addresses []netip.Addr) (words []said) {
	t.Helper()
	a, _, _ := faked(func(announcement.Report) {})
	c := a.core
	c.frames.pacing, c.schedule.pacing, c.unasked.frames.pacing = pacing, pacing, pacing
	for _, address := range fifty(200, "IPv4") {
		c.schedule.insist(address, began)
	}
	for _, address := range addresses {
		c.unasked.Add(address)
	}
	asked, now := 0, began
	for ; c.unasked.Len() > 0; now = later(now.Add(time.Millisecond), c.unasked.free()) {
		a.announce(now)
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
	limited := announcement.Pacing{Burst: 10, Interval: 1100 * time.Millisecond, Repeat: 5, Refresh: time.Minute}
	for name, pacing := range map[string]announcement.Pacing{"default": announcement.DefaultPacing(), "a switch that limits ARP": limited} {
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
	kept := plan(5, "192.0.2.200=a,b", "192.0.2.201=a,b")
	kept.Sight = announcement.Sight{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []announcement.Peer{{Node: "b"}}}
	c := restored(t, kept)
	require.True(t, c.resume(boot+leaderPatience))
	turn(c, began, nil)
	require.Len(t, c.sight.Ask(), 2)
	for claim := range kept.Announcements.All() {
		c.unasked.Add(claim.Address)
	}
	claim := announcement.Claim{Address: ip("192.0.2.200"), Stamp: kept.Stamp}
	var digest sight.Digest
	digest.Toggle(claim)
	c.sight.Flush(boot)
	require.NoError(t, c.sight.Receive(boot, sight.Packet{
		From: "b", Boot: 2, Seq: 1, Heard: sight.Echo{Boot: 1, Seq: 1}, Hears: true, Detect: time.Minute,
		Digest: digest, Part: &sight.Part{Range: true, Claims: []announcement.Claim{claim}},
	}))
	require.Equal(t, []netip.Addr{ip("192.0.2.201")}, c.takeUnasked(boot, began))
	c.sight.Probed(boot, []netip.Addr{ip("192.0.2.201")}, nil)
	c.settle(boot + c.sight.Detect()) // Until then it listens.
	require.True(t, c.sight.Claim(ip("192.0.2.200")).IsZero())
	require.False(t, c.sight.Claim(ip("192.0.2.201")).IsZero())
}

// TestFault_K1_9_ProbesArePaced: fifty addresses of a pool do not send 150 probes in 0.2 s.
func TestFault_K1_9_ProbesArePaced(t *testing.T) {
	c := newCore("node0", 1)
	c.frames.pacing.Burst = 60
	var words []said
	now, boot := began, time.Hour
	var ahead announcement.Probing
	for _, address := range fifty(100, "IPv4") {
		ahead.Probes = append(ahead.Probes, announcement.Probe{Address: address})
	}
	ahead.Interval = time.Hour
	c.conflicts.set(boot, ahead)
	probed := 0
	for range 10000 {
		due := c.conflicts.take(boot, c.frames.left(now, 0)/probeFrames)
		probed += len(due)
		c.frames.spend(now, len(due)*probeFrames)
		if n := len(due); n > 0 {
			words = append(words, said{now, n * probeFrames})
			c.conflicts.answer(boot, now, due, nil, false)
		}
		now, boot = now.Add(10*time.Millisecond), boot+10*time.Millisecond
	}
	require.Equal(t, 50, probed)
	require.LessOrEqual(t, mostIn(words, c.frames.pacing.Interval), 60)
}

// TestFault_K1_9_NothingStarves: where announcements alone would use up all that may leave,
// probes of a pool get their part.
func TestFault_K1_9_NothingStarves(t *testing.T) {
	a, _, _ := faked(func(announcement.Report) {})
	c := a.core
	pacing := announcement.Pacing{Burst: 5, Interval: time.Second, Repeat: 100, Refresh: 10 * time.Second}
	c.frames.pacing, c.schedule.pacing = pacing, pacing
	now, boot := began, time.Hour
	for _, address := range fifty(0, "IPv4") {
		c.schedule.insist(address, now)
	}
	ahead := announcement.Probing{Interval: time.Hour}
	for _, address := range fifty(100, "IPv4")[:5] {
		ahead.Probes = append(ahead.Probes, announcement.Probe{Address: address})
	}
	c.conflicts.set(boot, ahead)
	probed := 0
	for end := now.Add(time.Minute); now.Before(end) && probed < 5; now, boot = now.Add(50*time.Millisecond), boot+50*time.Millisecond {
		if due := c.conflicts.take(boot, c.frames.left(now, 0)/probeFrames); len(due) > 0 {
			probed += len(due)
			c.frames.spend(now, len(due)*probeFrames)
			c.conflicts.answer(boot, now, due, nil, false)
		}
		a.announce(now)
	}
	require.Equal(t, 5, probed)
}

// TestFault_K1_9_TheFirstOneNeverWaits: not where the LAN says meanwhile that another node has the
// address, nor where a stranger claims it.
func TestFault_K1_9_TheFirstOneNeverWaits(t *testing.T) {
	s := newSchedule()
	address := ip("192.0.2.200")
	s.start(address, began)
	s.insist(address, began)
	s.once(address, began)
	require.Equal(t, []netip.Addr{address}, s.takeFirst(began, 1))
	require.Equal(t, s.pacing.Repeat-1, s.left[address])
	require.Equal(t, began.Add(s.pacing.Interval), s.next())
	s.insist(address, began)
	require.Empty(t, s.takeFirst(began, 1))
	require.Equal(t, []netip.Addr{address}, s.takeRepeats(began, 1))
}

// TestFault_K1_9_ARegainedAddressIsNotHeldBack: a peer may have told the LAN that it has an address,
// while a thousand others of this node wait to be repeated. It is announced as soon as an interval
// has passed since the last time, and no sooner, however often that is said.
func TestFault_K1_9_ARegainedAddressIsNotHeldBack(t *testing.T) {
	a, v4, _ := faked(func(announcement.Report) {})
	pacing := announcement.Pacing{Burst: 12, Interval: time.Second, Repeat: 5, Refresh: time.Minute}
	a.core.frames.pacing, a.core.schedule.pacing = pacing, pacing
	for _, address := range addressList(1000) {
		a.core.schedule.start(address, began)
	}
	now, regained := began, addressList(1000)[700]
	var times []time.Duration
	v4.announced = func(addresses []netip.Addr) {
		if slices.Contains(addresses, regained) {
			times = append(times, now.Sub(began))
		}
	}
	for ; now.Before(began.Add(2500 * time.Millisecond)); now = now.Add(10 * time.Millisecond) {
		a.announce(now)
		if now.Sub(began) == 1500*time.Millisecond {
			require.Len(t, times, 1, "the others are repeated first")
		}
		if now.Sub(began) >= 1500*time.Millisecond {
			a.core.schedule.renew(regained, now)
		}
	}
	require.Len(t, times, 2)
	require.Equal(t, 1510*time.Millisecond, times[1])
	require.Equal(t, 2510*time.Millisecond, a.core.wake().Sub(began))
}

// TestFault_K1_4_WhatFindsNoRoomIsSentSoon: a first announcement for which the interface had no room
// is tried again before all others are repeated, and counts as the first.
func TestFault_K1_4_WhatFindsNoRoomIsSentSoon(t *testing.T) {
	a, v4, _ := faked(func(announcement.Report) {})
	announced := 0
	v4.announced = func(addresses []netip.Addr) { announced += len(addresses) }
	for _, address := range fifty(0, "IPv4") {
		a.core.schedule.start(address, began)
	}
	v4.full = true
	now := began
	for range 10 {
		a.announce(now)
		require.Equal(t, now.Add(sendAgain), a.core.wake())
		now = a.core.wake()
	}
	v4.full = false
	a.announce(now)
	require.Equal(t, 50, announced)
	for _, address := range fifty(0, "IPv4") {
		require.Equal(t, a.core.schedule.pacing.Repeat-1, a.core.schedule.left[address])
	}
}

func TestFrames(t *testing.T) {
	f := newFrames()
	f.pacing = announcement.Pacing{Burst: 10, Interval: time.Second}
	require.Equal(t, 10, f.left(began, 0))
	require.True(t, f.free(10, 0).IsZero())
	f.spend(began, 4)
	f.spend(began.Add(100*time.Millisecond), 6)
	require.Zero(t, f.left(began.Add(time.Second-1), 0))
	require.Equal(t, began.Add(time.Second), f.free(1, 0))
	require.Equal(t, began.Add(1100*time.Millisecond), f.free(1, 4))
	require.Equal(t, 4, f.left(began.Add(time.Second), 0))
	require.Equal(t, 1, f.left(began.Add(time.Second), 3))
	f.spend(began.Add(time.Second), 3000) // takeovers
	require.Zero(t, f.left(began.Add(time.Second), 0))
	require.Equal(t, 10, f.left(began.Add(-time.Hour), 0), "the clock was set back")
	require.Zero(t, f.total)
}
