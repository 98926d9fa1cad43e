package announcer

import (
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/sight"
)

func TestPace(t *testing.T) {
	p := pace(mostPace)
	require.EqualValues(t, mostPace, p.after(time.Millisecond))
	for range 10 {
		p = p.after(time.Second)
	}
	require.EqualValues(t, leastPace, p)
	require.Positive(t, p.portion())
	require.EqualValues(t, 2*leastPace, p.after(time.Millisecond))
}

// TestManyAddressesGoByPortions: an announcer that takes over thousands of addresses, or gives
// them up, does a little in each turn, and speaks to its peers in each in which it is time to,
// so that nobody takes it for down meanwhile.
func TestManyAddressesGoByPortions(t *testing.T) {
	const many = 3000
	now, boot, seq := began, time.Hour, uint64(0)
	a, v4, _ := faked(func(announcement.Report) {})
	announced, otherwise := 0, 0
	v4.announced = func(addresses []netip.Addr) { announced += len(addresses) }
	v4.otherwise = func(addresses []netip.Addr) {
		require.False(t, a.core.pending(), "no address waits to be announced at all")
		otherwise += len(addresses)
	}
	set := announcement.Set{Cluster: "c", Stamp: announcement.Stamp{Term: 1, Revision: 1}}
	set.Pacing = swiftly
	set.Sight = announcement.Sight{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []announcement.Peer{{Node: "node1"}, {Node: "node2"}}}
	var first []announcement.Claim
	var theirs sight.Digest
	for i := range many {
		address := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		set.Announcements = set.Announcements.With(announcement.Announcement{Address: address, Stamp: set.Stamp, Candidates: []string{"node1", "node0", "node2"}})
		first = append(first, announcement.Claim{Address: address, Stamp: set.Stamp})
		theirs.Toggle(first[i])
	}
	slow, apart := false, uint32(0)
	turn := func(n news) {
		for a.core.pace > leastPace && slow {
			a.core.hasten(time.Second)
		}
		claims, before := a.core.claims.Len(), announced
		a.turn(now, boot, n)
		if !slow {
			require.LessOrEqual(t, max(a.core.claims.Len()-claims, announced-before), pace(mostPace).portion())
		} else {
			require.LessOrEqual(t, max(a.core.claims.Len()-claims, claims-a.core.claims.Len()), leastPace)
		}
		require.Less(t, boot, a.core.sight.Deadline(), "peers were spoken to")
	}
	say := func(node string, part *sight.Part, digest sight.Digest) {
		seq++
		turn(news{packets: arrivals(sight.Packet{
			From: node, Boot: 2, Seq: seq, Heard: sight.Echo{Boot: 1, Seq: 1}, Hears: true, Detect: 300 * time.Millisecond, Digest: digest, Part: part,
			Apart: apart,
		})})
	}
	// rest lets the announcer do all there is to do: a millisecond in each turn, as if it took so long.
	rest := func(how time.Duration) (turns int) {
		for end := boot + how; boot < end; now, boot = now.Add(time.Millisecond), boot+time.Millisecond {
			if boot%(50*time.Millisecond) == 0 {
				say("node2", nil, 0)
				if apart > 0 {
					say("node1", nil, theirs)
				}
			}
			if a.core.pending() || a.otherwise.Len() > 0 || a.core.sight.Wake() <= boot || !a.core.wake().IsZero() && !a.core.wake().After(now) {
				turn(news{})
				turns++
			}
		}
		return turns
	}
	state := links(ifi(2, "eth0", "10.255.0.10/8"))
	a.turn(now, boot, news{links: &state, plans: map[string]announcement.Set{"r": set}})
	say("node1", &sight.Part{Range: true, Claims: first}, theirs)
	rest(100 * time.Millisecond)
	require.Zero(t, a.core.claims.Len(), "the first of the list has them")

	require.GreaterOrEqual(t, rest(700*time.Millisecond), many/pace(mostPace).portion(), "node1 is silent")
	require.Equal(t, many, a.core.claims.Len())
	require.GreaterOrEqual(t, announced, many)
	require.GreaterOrEqual(t, otherwise, many)

	slow = true
	fresh := netip.MustParseAddr("10.0.200.0")
	set.Stamp.Term++ // A new leader gives every list another stamp.
	for i := range first {
		list, _ := set.Announcements.Find(first[i].Address)
		list.Stamp, first[i].Stamp = set.Stamp, set.Stamp
		set.Announcements = set.Announcements.With(list)
	}
	set.Announcements = set.Announcements.With(announcement.Announcement{Address: fresh, Stamp: set.Stamp, Candidates: []string{"node0"}})
	turn(news{plans: map[string]announcement.Set{"r": set}})
	for range 4 {
		now, boot = now.Add(time.Millisecond), boot+time.Millisecond
		turn(news{})
	}
	require.True(t, a.core.claims.Has(fresh), "who is new does not wait for all others")
	require.NotEqual(t, set.Stamp, a.core.plan)
	rest(700 * time.Millisecond)
	require.Equal(t, set.Stamp, a.core.plan)
	require.Equal(t, many+1, a.core.claims.Len())

	apart, theirs = math.MaxUint32, 0 // node1 was not the one that was cut off.
	for _, claim := range first {
		theirs.Toggle(claim)
	}
	say("node1", &sight.Part{Range: true, Claims: first}, theirs)
	rest(700 * time.Millisecond)
	require.Equal(t, 1, a.core.claims.Len(), "node1 is back, and wins what it may have")
}

// TestATurnThatTakesTooLong: peers take a node for down whose turn takes longer than they
// wait. It does not go on as if nothing had happened, but begins anew.
func TestATurnThatTakesTooLong(t *testing.T) {
	now, boot := began, time.Hour
	a, v4, _ := faked(func(announcement.Report) {})
	set := plan(1, "192.0.2.200=node0,node1")
	set.Sight = announcement.Sight{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []announcement.Peer{{Node: "node1"}}}
	state := links(ifi(2, "eth0", "192.0.2.10/24"))
	a.turn(now, boot, news{links: &state, plans: map[string]announcement.Set{"r": set}})
	a.turn(now, boot, news{packets: arrivals(sight.Packet{
		From: "node1", Boot: 2, Seq: 1, Heard: sight.Echo{Boot: 1, Seq: 1}, Hears: true, Detect: 300 * time.Millisecond,
	})})
	require.Equal(t, 1, a.core.claims.Len())
	deadline := a.neighbours.deadline.Load()

	looks := 0
	a.clock = func() time.Duration {
		looks++
		return min(time.Duration(looks-1), 1) * 300 * time.Millisecond
	}
	a.turn(now, boot, news{})
	require.Equal(t, deadline, a.neighbours.deadline.Load(), "it stays fenced")
	a.clock = func() time.Duration { return 0 }
	boot += 300 * time.Millisecond
	require.LessOrEqual(t, a.core.sight.Wake(), boot)
	a.turn(now, boot, news{})
	require.Zero(t, a.core.claims.Len())
	require.Empty(t, v4.ports)
	require.Greater(t, a.neighbours.deadline.Load(), deadline)
}

// TestNoEndIsToldAhead: where a socket cannot be opened sight decides once more in the turn,
// about other addresses too. What ends then is not answered any more when peers hear of it.
func TestNoEndIsToldAhead(t *testing.T) {
	a, v4, _ := faked(func(announcement.Report) {})
	kept, lost, failing := "192.0.2.200=node0,node1", "192.0.2.201=node0,node1", "198.51.100.200=node0,node1"
	state := links(ifi(2, "eth0", "192.0.2.10/24"), ifi(3, "eth1", "198.51.100.10/24"))
	turn := func(n news, words ...string) {
		if words != nil {
			set := plan(a.core.set.Stamp.Revision+1, words...)
			set.Sight = announcement.Sight{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []announcement.Peer{{Node: "node1"}}}
			n.plans = map[string]announcement.Set{"r": set}
		}
		a.turn(began, time.Hour, n)
	}
	say := func(seq uint64, claims ...announcement.Claim) news {
		var digest sight.Digest
		for _, c := range claims {
			digest.Toggle(c)
		}
		return news{packets: arrivals(sight.Packet{
			From: "node1", Boot: 2, Seq: seq, Heard: sight.Echo{Boot: 1, Seq: 1}, Hears: true, Detect: 300 * time.Millisecond,
			Digest: digest, Part: &sight.Part{Range: true, Claims: claims},
		})}
	}
	turn(news{links: &state}, kept, lost)
	turn(say(1))
	turn(news{})
	turn(news{}, kept, lost, failing)
	require.Equal(t, 2, a.core.claims.Len())
	require.Equal(t, 1, a.core.begin.Len())
	v4.failed = map[int]error{3: errors.New("no buffers")}
	a.core.sight.Pace(1)
	turn(say(2, announcement.Claim{Address: ip("192.0.2.200"), Stamp: announcement.Stamp{Term: 1, Revision: 1}},
		announcement.Claim{Address: ip("192.0.2.201"), Stamp: announcement.Stamp{Term: 2, Revision: 1}}))
	require.Len(t, a.core.failing, 1)
	require.True(t, a.core.sight.Claim(ip("192.0.2.201")).IsZero(), "peers were told")
	for _, port := range v4.ports {
		require.False(t, port.Has(ip("192.0.2.201")), "it is answered")
	}
}

// TestNowhereToAsk: that nobody answers where nobody was asked says nothing.
func TestNowhereToAsk(t *testing.T) {
	a, _, _ := faked(func(announcement.Report) {})
	a.ask([]netip.Addr{ip("192.0.2.200")})
	a.asking.Wait()
	require.Empty(t, a.inbox.take().probes)
}
