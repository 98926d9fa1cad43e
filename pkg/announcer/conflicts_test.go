package announcer

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/internal/lograte"
	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const stranger = "02:00:00:00:00:99"

func probing(revision uint64, addresses ...string) plan.Probing {
	p := plan.Probing{Version: plan.Version{Term: 1, Revision: revision}, Interval: time.Minute}
	for _, a := range addresses {
		p.Probes = append(p.Probes, plan.Probe{Address: ip(a), Interface: "eth0"})
	}
	return p
}

func holder(address string) probe.Holder {
	return probe.Holder{Address: ip(address), MAC: stranger, Interface: "eth0"}
}

// findings returns what is told of other machines, however lately that was told before.
func findings(c *conflicts) []plan.Finding {
	c.listedAt = 0
	c.updateListed(time.Hour)
	return c.listed
}

func never(netip.Addr) bool  { return false }
func always(netip.Addr) bool { return true }

// Every address is asked for once a minute, and the list is acknowledged once all were. Who
// answered is told until he does not.
func TestProbingRounds(t *testing.T) {
	c, boot := newConflicts(), time.Hour
	c.setProbing(boot, probing(1, "192.0.2.1", "192.0.2.2"))
	require.Equal(t, boot, c.nextProbe())
	due := c.takeDue(boot, probesAtOnce)
	require.Len(t, due, 2)
	require.Empty(t, c.takeDue(boot, probesAtOnce), "a question is under way")
	require.Zero(t, c.nextProbe())
	require.Zero(t, c.probed)
	c.takeAnswer(boot+3*time.Second, began, due, []probe.Holder{holder("192.0.2.2"), holder("192.0.2.77")}, false)
	require.Equal(t, plan.Version{Term: 1, Revision: 1}, c.probed)
	want := []plan.Finding{{Address: ip("192.0.2.2"), MAC: stranger, Interface: "eth0", Since: began.Unix()}}
	require.Equal(t, want, findings(&c))
	require.Equal(t, boot+63*time.Second, c.nextProbe())
	require.Empty(t, c.takeDue(boot+62*time.Second, probesAtOnce))

	boot += 63 * time.Second
	c.takeAnswer(boot, began.Add(time.Minute), c.takeDue(boot, probesAtOnce), []probe.Holder{holder("192.0.2.2")}, false)
	require.Equal(t, want, findings(&c), "since when is kept")
	boot += time.Minute
	c.takeAnswer(boot, began.Add(2*time.Minute), c.takeDue(boot, probesAtOnce), nil, false)
	require.Empty(t, findings(&c))
	require.Equal(t, ConflictCounts{Probed: 6}, c.counts)
}

// A new list has only what is new in it asked for at once, and what is gone forgotten.
func TestProbingChanges(t *testing.T) {
	c, boot := newConflicts(), time.Hour
	c.setProbing(boot, probing(1, "192.0.2.1", "192.0.2.2"))
	c.takeAnswer(boot, began, c.takeDue(boot, probesAtOnce), []probe.Holder{holder("192.0.2.1"), holder("192.0.2.2")}, false)
	c.setProbing(boot, probing(2, "192.0.2.2"))
	require.Equal(t, plan.Version{Term: 1, Revision: 2}, c.probed)
	require.Len(t, findings(&c), 1)
	c.setProbing(boot, probing(3, "192.0.2.2", "192.0.2.3"))
	require.Equal(t, plan.Version{Term: 1, Revision: 2}, c.probed, "one was not asked for yet")
	due := c.takeDue(boot, probesAtOnce)
	require.Equal(t, probing(0, "192.0.2.3").Probes, due)
	c.setProbing(boot, probing(4, "192.0.2.2"))
	c.takeAnswer(boot, began, due, []probe.Holder{holder("192.0.2.3")}, false)
	require.Len(t, findings(&c), 1, "what came too late is nothing")
	sooner := probing(5, "192.0.2.2")
	sooner.Interval = time.Second
	c.setProbing(boot, sooner)
	findings(&c)
	require.Equal(t, boot+time.Second, c.nextProbe())
	c.setProbing(boot, plan.Probing{})
	require.Empty(t, findings(&c))
	require.Zero(t, c.nextProbe())
	require.Zero(t, c.wakeAt())
}

// What could not be asked for was not, and is tried again soon. Many go by portions.
func TestProbingFails(t *testing.T) {
	c, boot := newConflicts(), time.Hour
	var addresses []string
	for i := range probesAtOnce + 3 {
		addresses = append(addresses, fmt.Sprint("192.0.2.", i))
	}
	c.setProbing(boot, probing(1, addresses...))
	first := c.takeDue(boot, probesAtOnce)
	require.Len(t, first, probesAtOnce)
	c.takeAnswer(boot, began, first, nil, true)
	rest := c.takeDue(boot, probesAtOnce)
	require.Len(t, rest, 3)
	c.takeAnswer(boot, began, rest, nil, false)
	require.Zero(t, c.probed)
	findings(&c)
	require.Equal(t, boot+reprobeAfter, c.nextProbe())
	boot += reprobeAfter
	require.Equal(t, first, c.takeDue(boot, probesAtOnce))
	c.takeAnswer(boot, began, first, nil, false)
	require.Equal(t, uint64(1), c.probed.Revision)
}

// A claim of a node's address is told until five minutes after it was heard last, and
// answered by an announcement once in ten seconds (RFC 5227 section 2.4, (c)).
func TestDefence(t *testing.T) {
	c, boot := newConflicts(), time.Hour
	hear := func(after time.Duration) (news, defend bool) {
		boot += after
		news, defend = c.takeClaim(boot, began, holder("192.0.2.1"))
		if defend {
			c.markDefended(boot, ip("192.0.2.1"))
		}
		c.expired = 0
		c.expireClaims(boot, always)
		return news, defend
	}
	news, defend := hear(0)
	require.True(t, news && defend)
	news, defend = hear(defendInterval - time.Second)
	require.False(t, news || defend)
	_, defend = hear(time.Second)
	require.True(t, defend)
	require.Equal(t, ConflictCounts{Claimed: 3, Defended: 2}, c.counts)
	require.Len(t, findings(&c), 1)
	require.Equal(t, boot+heardFor, c.wakeAt())
	c.expired = 0
	c.expireClaims(boot+heardFor, always)
	require.Empty(t, findings(&c))
	require.Zero(t, c.nextProbe())
	require.Zero(t, c.wakeAt())
	require.Empty(t, c.defended)

	_, _ = hear(heardFor)
	c.expired = 0
	c.expireClaims(boot, never)
	require.Empty(t, findings(&c), "the address is another node's now")
}

// A claim that comes too early for another defence is answered as soon as one may be: it may be
// the last, and hosts believe it until then.
func TestDefenceIsOwed(t *testing.T) {
	c, boot, address := newConflicts(), time.Hour, ip("192.0.2.1")
	c.takeClaim(boot, began, holder("192.0.2.1"))
	c.markDefended(boot, address)
	require.Empty(t, c.takeOwed(boot+defendInterval))
	_, defend := c.takeClaim(boot+defendInterval/2, began, holder("192.0.2.1"))
	require.False(t, defend)
	c.markOwed(address)
	findings(&c)
	require.Equal(t, boot+defendInterval, c.wakeAt())
	require.Empty(t, c.takeOwed(boot+defendInterval-1))
	c.expireClaims(boot+defendInterval, always)
	require.Equal(t, []netip.Addr{address}, c.takeOwed(boot+defendInterval))
	c.markDefended(boot+defendInterval, address)
	require.Empty(t, c.takeOwed(boot+2*defendInterval))

	c.markOwed(address)
	c.expired = 0
	c.expireClaims(boot+2*defendInterval, never)
	require.Empty(t, c.takeOwed(boot+2*defendInterval), "the address is another node's now")
}

// The same machine found by asking and heard by itself is one.
func TestFindingsAreOne(t *testing.T) {
	c, boot := newConflicts(), time.Hour
	c.setProbing(boot, probing(1, "192.0.2.1"))
	c.takeClaim(boot, began, holder("192.0.2.1"))
	c.takeAnswer(boot, began.Add(time.Minute), c.takeDue(boot, probesAtOnce), []probe.Holder{holder("192.0.2.1")}, false)
	require.Equal(t, []plan.Finding{{Address: ip("192.0.2.1"), MAC: stranger, Interface: "eth0", Since: began.Unix()}}, findings(&c))
}

// Nodes are no strangers, and where one cannot be told from a stranger nothing is defended.
func TestWhoIsAStranger(t *testing.T) {
	c := newCore("a", 1)
	set := nodePlan(1, "192.0.2.200=a,b", "192.0.2.201=b")
	set.Failover = plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []plan.Peer{{
		Node: "b", Interfaces: []plan.Interface{{Name: "eth0", MAC: "02:00:00:00:00:0b", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24")}}},
	}}}
	require.NoError(t, c.acceptPlan(set))
	c.setLinks(time.Hour, links(ifi(2, "eth0", "192.0.2.10/24"), ifi(3, "eth1")))
	turn(c, began, nil)
	c.claims = c.claims.With(Claim{Address: ip("192.0.2.200")})
	contested := func(address, mac string) [2]bool {
		news, defend := c.addConflict(time.Hour, began, probe.Holder{Address: ip(address), MAC: mac, Interface: "eth0"})
		return [2]bool{news, defend}
	}
	require.Equal(t, [2]bool{}, contested("192.0.2.200", "02:00:00:00:00:0b"), "the other candidate")
	require.Equal(t, [2]bool{}, contested("192.0.2.200", net.HardwareAddr{2, 0, 0, 0, 0, 3}.String()), "the node's other interface")
	require.Equal(t, [2]bool{}, contested("192.0.2.201", stranger), "the other one answers for it")
	require.Equal(t, [2]bool{true, true}, contested("192.0.2.200", stranger))
	require.Empty(t, c.conflicts.owed)
	c.conflicts.markDefended(time.Hour, ip("192.0.2.200"))
	require.Equal(t, [2]bool{false, false}, contested("192.0.2.200", stranger), "again, too early")
	require.Equal(t, map[netip.Addr]bool{ip("192.0.2.200"): true}, c.conflicts.owed)
	c.conflicts.markDefended(time.Hour, ip("192.0.2.200"))
	c.nodePlan.Failover.Peers = nil
	require.Equal(t, [2]bool{true, false}, contested("192.0.2.200", "02:00:00:00:00:98"))
	require.Empty(t, c.conflicts.owed)
}

// A machine that claims one address thousands of times in a second is heard once.
func TestClaimLimit(t *testing.T) {
	l, mac := newClaimLimit(), net.HardwareAddr{2, 0, 0, 0, 0, 1}
	require.True(t, l.allowsClaim(began, ip("192.0.2.1"), mac))
	require.False(t, l.allowsClaim(began.Add(claimPause-1), ip("192.0.2.1"), mac))
	require.True(t, l.allowsClaim(began, ip("192.0.2.1"), net.HardwareAddr{2, 0, 0, 0, 0, 2}))
	require.True(t, l.allowsClaim(began.Add(claimPause), ip("192.0.2.1"), mac))
	l.setNodes(map[string]string{mac.String(): "b"})
	require.False(t, l.allowsClaim(began.Add(claimPause+nodePause-1), ip("192.0.2.1"), mac))
	require.True(t, l.allowsClaim(began.Add(claimPause+nodePause), ip("192.0.2.1"), mac), "which of two nodes answers hangs on it")
}

// K1.1: a flood of ever new hardware addresses passes at a bounded rate, costs bounded memory,
// and does not keep from the owner what nodes of the cluster announce.
func TestFault_K1_1_ClaimsPassAtABoundedRate(t *testing.T) {
	l := newClaimLimit()
	node := net.HardwareAddr{2, 0, 0, 0, 0, 0x0b}
	l.setNodes(map[string]string{node.String(): "b"})
	passed, nodes, most := 0, 0, 0
	const seconds, rate = 10, 50000
	for i := range seconds * rate {
		now := began.Add(time.Duration(i) * time.Second / rate)
		if l.allowsClaim(now, ip("192.0.2.1"), net.HardwareAddr{6, 0, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}) {
			passed++
		}
		if i%rate == 0 && l.allowsClaim(now, ip("192.0.2.1"), node) {
			nodes++
		}
		most = max(most, len(l.last))
	}
	require.Equal(t, seconds, nodes)
	require.LessOrEqual(t, passed, claimBurst+seconds*strangerRate)
	require.LessOrEqual(t, most, 2*claimBurst+2*(strangerRate+nodeRate))
}

// K1.1: of a flood four machines are kept for an address, 1024 in all, and the one that was
// heard first stays.
func TestFault_K1_1_FirstClaimantIsKept(t *testing.T) {
	for _, family := range []string{"192.0.2.", "2001:db8::"} {
		c, boot := newConflicts(), time.Hour
		forged := func(address string, i int) probe.Holder {
			h := holder(address)
			h.MAC = net.HardwareAddr{6, 0, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}.String()
			return h
		}
		first := holder(family + "1")
		c.takeClaim(boot, began, first)
		lists := 0
		for i := range 40000 { // 300 a second, as in the fault
			now := boot + time.Duration(i)*time.Second/300
			c.takeClaim(now, began, forged(family+"1", i))
			if i%30000 == 0 {
				c.takeClaim(now, began, first) // It is heard again within five minutes.
			}
			c.expireClaims(now, always)
			if c.updateListed(now) {
				lists++
			}
		}
		require.LessOrEqual(t, lists, 40000/300+1, "reports at most once a second")
		require.Len(t, c.heard.by[first.Address], maxClaimants)
		found := findings(&c)
		require.Len(t, found, maxClaimants)
		require.True(t, slices.ContainsFunc(found, func(f plan.Finding) bool { return f.MAC == stranger }))
		for i := range 3000 {
			address := ip("10.0.0.0").As4()
			address[2], address[3] = byte(i>>8), byte(i)
			c.takeClaim(boot, began, forged(netip.AddrFrom4(address).String(), i))
		}
		require.Len(t, findings(&c), maxClaimantsInAll)
		require.Equal(t, maxClaimantsInAll, c.heard.count)
		c.expireClaims(boot+time.Hour, always)
		require.Zero(t, c.heard.count)
		require.Empty(t, c.heard.by)
	}
}

// K1.1: one log line for an address and minute, 60 a minute in all, and the last one has the
// number of the others.
func TestFault_K1_1_LogLinesAreBounded(t *testing.T) {
	var out bytes.Buffer
	a, _, _ := faked(func(plan.Report) {})
	a.log = slog.New(slog.NewTextHandler(&out, nil))
	state := links(ifi(2, "eth0", "192.0.2.10/24"))
	a.step(began, time.Hour, events{links: &state})
	var addresses []netip.Addr
	for i := range 200 {
		address := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		addresses = append(addresses, address)
		a.core.claims = a.core.claims.With(Claim{Address: address})
	}
	claims := func(after time.Duration, of ...netip.Addr) {
		var n events
		for i, address := range of {
			mac := net.HardwareAddr{6, 0, 0, byte(after / time.Second), byte(i >> 8), byte(i)}
			n.claims = append(n.claims, probe.Holder{Address: address, MAC: mac.String(), Interface: "eth0"})
		}
		a.takeConflicts(began.Add(after), time.Hour+after, n)
	}
	for second := range 60 {
		for range 5 {
			claims(time.Duration(second)*time.Second, addresses[0])
		}
	}
	require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("\n")), out.String())
	out.Reset()
	for second := range 60 {
		claims(time.Hour+time.Duration(second)*time.Second, addresses...)
	}
	require.LessOrEqual(t, bytes.Count(out.Bytes(), []byte("\n")), lograte.Lines)
	out.Reset()
	claims(2 * time.Hour)
	require.Contains(t, out.String(), `msg="log lines suppressed" suppressed=`)
}
