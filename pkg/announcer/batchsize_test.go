package announcer

import (
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

func TestPace(t *testing.T) {
	p := batchSize(mostBatch)
	require.EqualValues(t, mostBatch, p.nextSize(time.Millisecond))
	for range 10 {
		p = p.nextSize(time.Second)
	}
	require.EqualValues(t, leastBatch, p)
	require.Positive(t, p.applySize())
	require.EqualValues(t, 2*leastBatch, p.nextSize(time.Millisecond))
}

// TestManyAddressesGoByPortions: an announcer that takes over thousands of addresses, or gives
// them up, does a little in each turn, and speaks to its peers in each in which it is time to,
// so that nobody takes it for down meanwhile.
func TestManyAddressesGoByPortions(t *testing.T) {
	const many = 3000
	now, boot, seq := began, time.Hour, uint64(0)
	a, v4, _ := faked(func(plan.Report) {})
	announced, otherwise := 0, 0
	v4.announced = func(addresses []netip.Addr) { announced += len(addresses) }
	v4.otherwise = func(addresses []netip.Addr) {
		require.False(t, a.core.hasPending(), "no address waits to be announced at all")
		otherwise += len(addresses)
	}
	set := plan.NodePlan{Cluster: "c", Version: plan.Version{Term: 1, Revision: 1}}
	set.Pacing = swiftly
	set.Failover = plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []plan.Peer{{Node: "node1"}, {Node: "node2"}}}
	var first []plan.Claim
	var theirs failover.Digest
	for i := range many {
		address := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		set.Assignments = set.Assignments.With(plan.Assignment{Address: address, Version: set.Version, Candidates: []string{"node1", "node0", "node2"}})
		first = append(first, plan.Claim{Address: address, Version: set.Version})
		theirs.Toggle(first[i])
	}
	slow, apart := false, uint32(0)
	turn := func(n events) {
		for a.core.batchSize > leastBatch && slow {
			a.core.growBatch(time.Second)
		}
		claims, before := a.core.claims.Len(), announced
		a.step(now, boot, n)
		if !slow {
			require.LessOrEqual(t, max(a.core.claims.Len()-claims, announced-before), batchSize(mostBatch).applySize())
		} else {
			require.LessOrEqual(t, max(a.core.claims.Len()-claims, claims-a.core.claims.Len()), leastBatch)
		}
		require.Less(t, boot, a.core.failover.Deadline(), "peers were spoken to")
	}
	say := func(node string, part *failover.Part, digest failover.Digest) {
		seq++
		turn(events{packets: arrivals(failover.Packet{
			From: node, Incarnation: 2, Seq: seq, Heard: failover.Echo{Incarnation: 1, Seq: 1}, Hears: true, Detect: 300 * time.Millisecond, Digest: digest, Part: part,
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
			if a.core.hasPending() || a.otherwise.Len() > 0 || a.core.failover.Wake() <= boot || !a.core.wakeAt().IsZero() && !a.core.wakeAt().After(now) {
				turn(events{})
				turns++
			}
		}
		return turns
	}
	state := links(ifi(2, "eth0", "10.255.0.10/8"))
	a.step(now, boot, events{links: &state, plans: map[string]plan.NodePlan{"r": set}})
	say("node1", &failover.Part{Range: true, Claims: first}, theirs)
	rest(100 * time.Millisecond)
	require.Zero(t, a.core.claims.Len(), "the first of the list has them")

	require.GreaterOrEqual(t, rest(700*time.Millisecond), many/batchSize(mostBatch).applySize(), "node1 is silent")
	require.Equal(t, many, a.core.claims.Len())
	require.GreaterOrEqual(t, announced, many)
	require.GreaterOrEqual(t, otherwise, many)

	slow = true
	fresh := netip.MustParseAddr("10.0.200.0")
	set.Version.Term++ // A new leader gives every list another version.
	for i := range first {
		list, _ := set.Assignments.Find(first[i].Address)
		list.Version, first[i].Version = set.Version, set.Version
		set.Assignments = set.Assignments.With(list)
	}
	set.Assignments = set.Assignments.With(plan.Assignment{Address: fresh, Version: set.Version, Candidates: []string{"node0"}})
	turn(events{plans: map[string]plan.NodePlan{"r": set}})
	for range 4 {
		now, boot = now.Add(time.Millisecond), boot+time.Millisecond
		turn(events{})
	}
	require.True(t, a.core.claims.Has(fresh), "who is new does not wait for all others")
	require.NotEqual(t, set.Version, a.core.appliedVersion)
	rest(700 * time.Millisecond)
	require.Equal(t, set.Version, a.core.appliedVersion)
	require.Equal(t, many+1, a.core.claims.Len())

	apart, theirs = math.MaxUint32, 0 // node1 was not the one that was cut off.
	for _, claim := range first {
		theirs.Toggle(claim)
	}
	say("node1", &failover.Part{Range: true, Claims: first}, theirs)
	rest(700 * time.Millisecond)
	require.Equal(t, 1, a.core.claims.Len(), "node1 is back, and wins what it may have")
}

// TestATurnThatTakesTooLong: peers take a node for down whose turn takes longer than they
// wait. It does not go on as if nothing had happened, but begins anew.
func TestATurnThatTakesTooLong(t *testing.T) {
	now, boot := began, time.Hour
	a, v4, _ := faked(func(plan.Report) {})
	set := nodePlan(1, "192.0.2.200=node0,node1")
	set.Failover = plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []plan.Peer{{Node: "node1"}}}
	state := links(ifi(2, "eth0", "192.0.2.10/24"))
	a.step(now, boot, events{links: &state, plans: map[string]plan.NodePlan{"r": set}})
	a.step(now, boot, events{packets: arrivals(failover.Packet{
		From: "node1", Incarnation: 2, Seq: 1, Heard: failover.Echo{Incarnation: 1, Seq: 1}, Hears: true, Detect: 300 * time.Millisecond,
	})})
	require.Equal(t, 1, a.core.claims.Len())
	deadline := a.transport.deadline.Load()

	looks := 0
	a.clock = func() time.Duration {
		looks++
		return min(time.Duration(looks-1), 1) * 300 * time.Millisecond
	}
	a.step(now, boot, events{})
	require.Equal(t, deadline, a.transport.deadline.Load(), "it stays fenced")
	a.clock = func() time.Duration { return 0 }
	boot += 300 * time.Millisecond
	require.LessOrEqual(t, a.core.failover.Wake(), boot)
	a.step(now, boot, events{})
	require.Zero(t, a.core.claims.Len())
	require.Empty(t, v4.ports)
	require.Greater(t, a.transport.deadline.Load(), deadline)
}

// TestNoEndIsToldAhead: where a socket cannot be opened failover decides once more in the turn,
// about other addresses too. What ends then is not answered any more when peers hear of it.
func TestNoEndIsToldAhead(t *testing.T) {
	a, v4, _ := faked(func(plan.Report) {})
	kept, lost, failing := "192.0.2.200=node0,node1", "192.0.2.201=node0,node1", "198.51.100.200=node0,node1"
	state := links(ifi(2, "eth0", "192.0.2.10/24"), ifi(3, "eth1", "198.51.100.10/24"))
	turn := func(n events, words ...string) {
		if words != nil {
			set := nodePlan(a.core.nodePlan.Version.Revision+1, words...)
			set.Failover = plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []plan.Peer{{Node: "node1"}}}
			n.plans = map[string]plan.NodePlan{"r": set}
		}
		a.step(began, time.Hour, n)
	}
	say := func(seq uint64, claims ...plan.Claim) events {
		var digest failover.Digest
		for _, c := range claims {
			digest.Toggle(c)
		}
		return events{packets: arrivals(failover.Packet{
			From: "node1", Incarnation: 2, Seq: seq, Heard: failover.Echo{Incarnation: 1, Seq: 1}, Hears: true, Detect: 300 * time.Millisecond,
			Digest: digest, Part: &failover.Part{Range: true, Claims: claims},
		})}
	}
	turn(events{links: &state}, kept, lost)
	turn(say(1))
	turn(events{})
	turn(events{}, kept, lost, failing)
	require.Equal(t, 2, a.core.claims.Len())
	require.Equal(t, 1, a.core.begin.Len())
	v4.failed = map[int]error{3: errors.New("no buffers")}
	a.core.failover.SetBatchSize(1)
	turn(say(2, plan.Claim{Address: ip("192.0.2.200"), Version: plan.Version{Term: 1, Revision: 1}},
		plan.Claim{Address: ip("192.0.2.201"), Version: plan.Version{Term: 2, Revision: 1}}))
	require.Len(t, a.core.failing, 1)
	require.True(t, a.core.failover.Claim(ip("192.0.2.201")).IsZero(), "peers were told")
	for _, port := range v4.ports {
		require.False(t, port.Has(ip("192.0.2.201")), "it is answered")
	}
}

// TestNowhereToAsk: that nobody answers where nobody was asked says nothing.
func TestNowhereToAsk(t *testing.T) {
	a, _, _ := faked(func(plan.Report) {})
	a.probeForTakeover([]netip.Addr{ip("192.0.2.200")})
	a.asking.Wait()
	require.Empty(t, a.mailbox.takeEvents().probes)
}
