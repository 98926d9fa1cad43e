package announcer

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/probe"
)

const stranger = "02:00:00:00:00:99"

func probing(revision uint64, addresses ...string) announcement.Probing {
	p := announcement.Probing{Stamp: announcement.Stamp{Term: 1, Revision: revision}, Interval: time.Minute}
	for _, a := range addresses {
		p.Probes = append(p.Probes, announcement.Probe{Address: ip(a), Interface: "eth0"})
	}
	return p
}

func holder(address string) probe.Holder {
	return probe.Holder{Address: ip(address), MAC: stranger, Interface: "eth0"}
}

func never(netip.Addr) bool  { return false }
func always(netip.Addr) bool { return true }

// Every address is asked for once a minute, and the list is acknowledged once all were. Who
// answered is told until he does not.
func TestProbingRounds(t *testing.T) {
	c, boot := newConflicts(), time.Hour
	c.set(boot, probing(1, "192.0.2.1", "192.0.2.2"))
	require.Equal(t, boot, c.wake())
	due := c.take(boot)
	require.Len(t, due, 2)
	require.Empty(t, c.take(boot), "a question is under way")
	require.Zero(t, c.wake())
	require.Zero(t, c.probed)
	c.answer(boot+3*time.Second, began, due, []probe.Holder{holder("192.0.2.2"), holder("192.0.2.77")}, false)
	require.Equal(t, announcement.Stamp{Term: 1, Revision: 1}, c.probed)
	want := []announcement.Finding{{Address: ip("192.0.2.2"), MAC: stranger, Interface: "eth0", Since: began.Unix()}}
	require.Equal(t, want, c.findings())
	require.Equal(t, boot+63*time.Second, c.wake())
	require.Empty(t, c.take(boot+62*time.Second))

	boot += 63 * time.Second
	c.answer(boot, began.Add(time.Minute), c.take(boot), []probe.Holder{holder("192.0.2.2")}, false)
	require.Equal(t, want, c.findings(), "since when is kept")
	boot += time.Minute
	c.answer(boot, began.Add(2*time.Minute), c.take(boot), nil, false)
	require.Empty(t, c.findings())
	require.Equal(t, ConflictCounts{Probed: 6}, c.counts)
}

// A new list has only what is new in it asked for at once, and what is gone forgotten.
func TestProbingChanges(t *testing.T) {
	c, boot := newConflicts(), time.Hour
	c.set(boot, probing(1, "192.0.2.1", "192.0.2.2"))
	c.answer(boot, began, c.take(boot), []probe.Holder{holder("192.0.2.1"), holder("192.0.2.2")}, false)
	c.set(boot, probing(2, "192.0.2.2"))
	require.Equal(t, announcement.Stamp{Term: 1, Revision: 2}, c.probed)
	require.Len(t, c.findings(), 1)
	c.set(boot, probing(3, "192.0.2.2", "192.0.2.3"))
	require.Equal(t, announcement.Stamp{Term: 1, Revision: 2}, c.probed, "one was not asked for yet")
	due := c.take(boot)
	require.Equal(t, probing(0, "192.0.2.3").Probes, due)
	c.set(boot, probing(4, "192.0.2.2"))
	c.answer(boot, began, due, []probe.Holder{holder("192.0.2.3")}, false)
	require.Len(t, c.findings(), 1, "what came too late is nothing")
	sooner := probing(5, "192.0.2.2")
	sooner.Interval = time.Second
	c.set(boot, sooner)
	require.Equal(t, boot+time.Second, c.wake())
	c.set(boot, announcement.Probing{})
	require.Zero(t, c.wake())
	require.Empty(t, c.findings())
}

// What could not be asked for was not, and is tried again soon. Many go by portions.
func TestProbingFails(t *testing.T) {
	c, boot := newConflicts(), time.Hour
	var addresses []string
	for i := range probesAtOnce + 3 {
		addresses = append(addresses, fmt.Sprint("192.0.2.", i))
	}
	c.set(boot, probing(1, addresses...))
	first := c.take(boot)
	require.Len(t, first, probesAtOnce)
	c.answer(boot, began, first, nil, true)
	rest := c.take(boot)
	require.Len(t, rest, 3)
	c.answer(boot, began, rest, nil, false)
	require.Zero(t, c.probed)
	require.Equal(t, boot+reprobeAfter, c.wake())
	boot += reprobeAfter
	require.Equal(t, first, c.take(boot))
	c.answer(boot, began, first, nil, false)
	require.Equal(t, uint64(1), c.probed.Revision)
}

// A claim of a node's address is told until five minutes after it was heard last, and
// answered by an announcement once in ten seconds (RFC 5227 section 2.4, (c)).
func TestDefence(t *testing.T) {
	c, boot := newConflicts(), time.Hour
	hear := func(after time.Duration) (news, defend bool) {
		boot += after
		news, defend = c.hear(boot, began, holder("192.0.2.1"))
		if defend {
			c.defend(boot, ip("192.0.2.1"))
		}
		c.expire(boot, always)
		return news, defend
	}
	news, defend := hear(0)
	require.True(t, news && defend)
	news, defend = hear(defendInterval - time.Second)
	require.False(t, news || defend)
	_, defend = hear(time.Second)
	require.True(t, defend)
	require.Equal(t, ConflictCounts{Claimed: 3, Defended: 2}, c.counts)
	require.Len(t, c.findings(), 1)
	require.Equal(t, boot+heardFor, c.wake())
	c.expire(boot+heardFor, always)
	require.Empty(t, c.findings())
	require.Zero(t, c.wake())
	require.Empty(t, c.defended)

	_, _ = hear(heardFor)
	c.expire(boot, never)
	require.Empty(t, c.findings(), "the address is another node's now")
}

// The same machine found by asking and heard by itself is one.
func TestFindingsAreOne(t *testing.T) {
	c, boot := newConflicts(), time.Hour
	c.set(boot, probing(1, "192.0.2.1"))
	c.hear(boot, began, holder("192.0.2.1"))
	c.answer(boot, began.Add(time.Minute), c.take(boot), []probe.Holder{holder("192.0.2.1")}, false)
	require.Equal(t, []announcement.Finding{{Address: ip("192.0.2.1"), MAC: stranger, Interface: "eth0", Since: began.Unix()}}, c.findings())
}

// Nodes are no strangers, and where one cannot be told from a stranger nothing is defended.
func TestWhoIsAStranger(t *testing.T) {
	c := newCore("a", 1)
	set := plan(1, "192.0.2.200=a,b", "192.0.2.201=b")
	set.Sight = announcement.Sight{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []announcement.Peer{{
		Node: "b", Interfaces: []announcement.Interface{{Name: "eth0", MAC: "02:00:00:00:00:0b", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24")}}},
	}}}
	require.NoError(t, c.offer(set))
	c.see(time.Hour, links(ifi(2, "eth0", "192.0.2.10/24"), ifi(3, "eth1")))
	turn(c, began, nil)
	c.claims = c.claims.With(Claim{Address: ip("192.0.2.200")})
	contested := func(address, mac string) [2]bool {
		news, defend := c.contested(time.Hour, began, probe.Holder{Address: ip(address), MAC: mac, Interface: "eth0"})
		return [2]bool{news, defend}
	}
	require.Equal(t, [2]bool{}, contested("192.0.2.200", "02:00:00:00:00:0b"), "the other candidate")
	require.Equal(t, [2]bool{}, contested("192.0.2.200", net.HardwareAddr{2, 0, 0, 0, 0, 3}.String()), "the node's other interface")
	require.Equal(t, [2]bool{}, contested("192.0.2.201", stranger), "the other one answers for it")
	require.Equal(t, [2]bool{true, true}, contested("192.0.2.200", stranger))
	c.set.Sight.Peers = nil
	require.Equal(t, [2]bool{true, false}, contested("192.0.2.200", "02:00:00:00:00:98"))
}

// A machine that claims one address thousands of times in a second is heard once.
func TestClaimLimit(t *testing.T) {
	l, mac := newClaimLimit(), net.HardwareAddr{2, 0, 0, 0, 0, 1}
	require.True(t, l.passes(began, ip("192.0.2.1"), mac))
	require.False(t, l.passes(began.Add(claimPause-1), ip("192.0.2.1"), mac))
	require.True(t, l.passes(began, ip("192.0.2.1"), net.HardwareAddr{2, 0, 0, 0, 0, 2}))
	require.True(t, l.passes(began.Add(claimPause), ip("192.0.2.1"), mac))
	for i := range 3 * maxClaims {
		require.True(t, l.passes(began, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), mac))
		require.LessOrEqual(t, len(l.last), maxClaims)
	}
}
