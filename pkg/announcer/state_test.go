package announcer

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

var began = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func ifi(index int, name string, prefixes ...string) netstate.Interface {
	i := netstate.Interface{
		Index: index, Name: name, Kind: "device", MAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(index)},
		Up: true, Running: true, Broadcast: true,
	}
	for _, p := range prefixes {
		i.Prefixes = append(i.Prefixes, netip.MustParsePrefix(p))
		i.Destinations = append(i.Destinations, plan.Destination{Prefix: netip.MustParsePrefix(p).Masked(), OnLink: true})
	}
	return i
}

// gateway has the default routes of both families leave by i.
func gateway(i netstate.Interface) netstate.Interface {
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		i.Destinations = append(i.Destinations, plan.Destination{Prefix: netip.MustParsePrefix(all)})
	}
	return i
}

func links(interfaces ...netstate.Interface) netstate.Snapshot {
	return netstate.Snapshot{Interfaces: interfaces, Gateways: []netip.Addr{ip("192.0.2.1")}}
}

// nodePlan is revision r of term 1: each word is "address=node,node" or
// "address@selector=node,node".
func nodePlan(r uint64, words ...string) plan.NodePlan {
	set := plan.NodePlan{Cluster: "c", Version: plan.Version{Term: 1, Revision: r}}
	for _, w := range words {
		where, nodes, _ := strings.Cut(w, "=")
		address, selector, _ := strings.Cut(where, "@")
		a := plan.Assignment{Address: ip(address), Version: set.Version, Interface: selector}
		if nodes != "" {
			a.Candidates = strings.Split(nodes, ",")
		}
		set.Assignments = set.Assignments.With(a)
	}
	return set
}

// turn lets the core carry out what it wants with sockets that all work, or fail as failed says.
func turn(c *core, now time.Time, failed failures) *plan.Report {
	if c.retryDue(now) {
		c.retryNow()
	}
	c.configureFailover(time.Hour)
	c.reconcileClaims(time.Hour)
	for first := true; first || c.begin.Len()+len(c.touched) > 0; first = false {
		addresses := c.nextBatch()
		c.setDesired(addresses)
		c.commitApplied(now, addresses, failed)
	}
	return c.nextReport()
}

func TestDecide(t *testing.T) {
	slave, down := ifi(4, "eth3"), ifi(5, "eth4", "198.51.100.7/24")
	slave.Master = 9
	down.Up = false
	uplink := gateway(ifi(3, "eth1", "203.0.113.5/24"))
	state := links(ifi(2, "eth0", "192.0.2.10/24", "2001:db8::10/64"), uplink, slave, down)
	for name, test := range map[string]struct {
		announcement string
		want         string
	}{
		"on-link prefix":                          {"192.0.2.200=a", "eth0"},
		"on-link prefix, IPv6":                    {"2001:db8::200=a", "eth0"},
		"no prefix: the default route":            {"10.0.0.1=a", "eth1"},
		"only the first candidate answers":        {"192.0.2.200=b,a", "standby"},
		"no candidate":                            {"192.0.2.200=", "standby"},
		"by name":                                 {"10.0.0.1@eth0=a", "eth0"},
		"by expression":                           {"10.0.0.1@/eth[01]/=a", "eth0+eth1"},
		"by reach":                                {"10.0.0.1@can_reach:192.0.2.9=a", "eth0"},
		"the node's own address":                  {"192.0.2.10=a", "AddressIsLocal: 192.0.2.10 is this node's own address on eth0"},
		"the gateway":                             {"192.0.2.1=a", "AddressIsLocal: 192.0.2.1 is a gateway of this node"},
		"an address of an interface that is down": {"198.51.100.7=a", "AddressIsLocal: 198.51.100.7 is this node's own address on eth4"},
		"no such interface":                       {"10.0.0.1@eth9=a", `NodeNoInterface: there is no usable interface "eth9"`},
		"an enslaved one":                         {"10.0.0.1@eth3=a", "NodeNoInterface: eth3 is a port of another interface; use that one"},
		"one that is down":                        {"10.0.0.1@eth4=a", "NodeNoInterface: eth4 is down"},
		"no match":                                {"10.0.0.1@/wlan.*/=a", "NodeNoInterface: no interface matches /wlan.*/"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, planned("a", nodePlan(1, test.announcement), state))
		})
	}
}

// planned says what comes of a plan for one address where nobody is watched.
func planned(node string, set plan.NodePlan, state netstate.Snapshot) string {
	c := newCore(node, 1)
	c.nodePlan = set
	c.setLinks(time.Hour, state)
	turn(c, began, nil)
	switch {
	case c.problems.Len() > 0:
		return fmt.Sprint(c.listed[0].Reason, ": ", c.listed[0].Message)
	case c.claims.Len() > 0:
		return strings.ReplaceAll(c.claims.Nth(0).Interfaces, ", ", "+")
	case c.backupCount() == 1:
		return "standby"
	}
	return "nothing"
}

// TestFault_K4_1_PeerReportsTheAddress: what a peer reports as its own keeps no other node from
// answering.
func TestFault_K4_1_PeerReportsTheAddress(t *testing.T) {
	set := nodePlan(1, "192.0.2.11=a")
	set.Failover.Peers = []plan.Peer{{Node: "b", Interfaces: []plan.Interface{
		{Name: "ens1", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24")}},
	}}}
	require.Equal(t, "eth0", planned("a", set, links(ifi(2, "eth0", "192.0.2.10/24"))))
}

// TestAddressOfARouter: a node answers for no router that the node speaks BGP to, from when it is told of it.
func TestAddressOfARouter(t *testing.T) {
	c := newCore("a", 1)
	require.NoError(t, c.acceptPlan(nodePlan(1, "192.0.2.12=a")))
	c.setLinks(time.Hour, links(ifi(2, "eth0", "192.0.2.10/24")))
	require.Empty(t, turn(c, began, nil).Problems)
	set := nodePlan(2, "192.0.2.12=a")
	set.BGP.Peers = []plan.BGPPeer{{Name: "tor-a", Address: ip("192.0.2.12")}}
	require.NoError(t, c.acceptPlan(set))
	require.Equal(t, []plan.Problem{{
		Address: ip("192.0.2.12"), Reason: reason.AddressIsLocal, Message: "192.0.2.12 is the address of the BGP peer tor-a",
	}}, turn(c, began, nil).Problems)
}

func TestNothingIsReportedBeforeTheInterfacesAreKnown(t *testing.T) {
	c := newCore("a", 1)
	require.NoError(t, c.acceptPlan(nodePlan(1, "192.0.2.200=a")))
	require.Nil(t, turn(c, began, nil))
	require.True(t, c.appliedVersion.IsZero(), "nothing was carried out")
	c.setLinks(time.Hour, links(ifi(2, "eth0", "192.0.2.10/24")))
	r := turn(c, began, nil)
	require.Equal(t, plan.Report{
		Plan: plan.Version{Term: 1, Revision: 1}, Highest: plan.Version{Term: 1, Revision: 1}, Cluster: "c",
		Claims: plan.NewIndex(plan.Claim{Address: ip("192.0.2.200"), Version: plan.Version{Term: 1, Revision: 1}}),
		Interfaces: []plan.Interface{{
			Name: "eth0", MAC: "02:00:00:00:00:02", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")},
			Destinations: []plan.Destination{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), OnLink: true}},
		}},
	}, *r)
	require.Nil(t, turn(c, began, nil), "said once")
}

func TestStaleAndForeignPlansChangeNothing(t *testing.T) {
	c := newCore("a", 1)
	c.setLinks(time.Hour, links(ifi(2, "eth0", "192.0.2.10/24")))
	require.NoError(t, c.acceptPlan(nodePlan(5, "192.0.2.200=a")))
	turn(c, began, nil)
	require.Equal(t, refusedStale, refusalCause(c.acceptPlan(nodePlan(4))))
	require.Empty(t, refusalCause(c.acceptPlan(nodePlan(5))), "the same again is not counted")
	deposed := nodePlan(9)
	deposed.Version.Term = 0
	require.Equal(t, refusedStale, refusalCause(c.acceptPlan(deposed)), "a lower term")
	foreign := nodePlan(9)
	foreign.Cluster = "other"
	require.Equal(t, refusedForeign, refusalCause(c.acceptPlan(foreign)))
	require.Nil(t, turn(c, began, nil))
	require.Equal(t, 1, c.claims.Len())
}

func TestClaimLastsThroughAnotherList(t *testing.T) {
	c := newCore("a", 1)
	c.setLinks(time.Hour, links(ifi(2, "eth0", "192.0.2.10/24")))
	require.NoError(t, c.acceptPlan(nodePlan(1, "192.0.2.200=a,b")))
	turn(c, began, nil)
	c.schedule.take(began, mostBatch)
	require.NoError(t, c.acceptPlan(nodePlan(2, "192.0.2.200=a,c")))
	r := turn(c, began.Add(time.Minute), nil)
	require.Equal(t, plan.NewIndex(plan.Claim{Address: ip("192.0.2.200"), Version: plan.Version{Term: 1, Revision: 2}}), r.Claims)
	require.Equal(t, began, c.claims.Nth(0).Since, "answered all along")
	require.Equal(t, burst-1, c.schedule.left[ip("192.0.2.200")], "nothing that neighbours need to hear again")
}

// TestWhatNeighboursMustHear: a burst begins when the address is claimed, when it moves to
// other interfaces and when the hardware address changes.
func TestWhatNeighboursMustHear(t *testing.T) {
	c := newCore("a", 1)
	eth0, eth1 := ifi(2, "eth0", "192.0.2.10/24"), ifi(3, "eth1", "198.51.100.11/24")
	now := began
	heard := func(state netstate.Snapshot) bool {
		now = now.Add(time.Hour)
		c.schedule.take(now, mostBatch) // what is due anyway
		c.setLinks(time.Hour, state)
		turn(c, now, nil)
		return len(c.schedule.take(now, mostBatch)) > 0
	}
	require.NoError(t, c.acceptPlan(nodePlan(1, "192.0.2.200@/eth./=a")))
	require.True(t, heard(links(eth0)), "claimed")
	require.False(t, heard(links(eth0, ifi(7, "docker0", "172.17.0.1/16"))), "another interface appears")
	require.True(t, heard(links(eth0, eth1)), "also on eth1")
	eth0.MAC = net.HardwareAddr{2, 9, 9, 9, 9, 9}
	require.True(t, heard(links(eth0, eth1)), "another MAC")
	eth1.Index = 33
	require.True(t, heard(links(eth0, eth1)), "deleted and made again")
	eth0.Running = false
	require.True(t, heard(links(eth0, eth1)), "only eth1 has a carrier")
}

func TestFailedSockets(t *testing.T) {
	c := newCore("a", 1)
	c.setLinks(time.Hour, links(ifi(2, "eth0", "192.0.2.10/24"), ifi(3, "eth1", "192.0.2.11/24")))
	require.NoError(t, c.acceptPlan(nodePlan(1, "192.0.2.200@/eth./=a", "192.0.2.201@eth1=a", "2001:db8::1@eth1=a")))
	eth1 := failures{ipv4: {3: errors.New("arp on eth1: no buffers")}}
	r := turn(c, began, eth1)
	require.Equal(t, []plan.Problem{{Address: ip("192.0.2.201"), Reason: reason.SocketFailed, Message: "arp on eth1: no buffers"}}, r.Problems)
	require.Equal(t, []netip.Addr{ip("192.0.2.200"), ip("2001:db8::1")}, claimed(*r), "one interface is enough, and the other family has sockets of its own")
	require.Equal(t, "eth0", c.claims.Nth(0).Interfaces)

	require.False(t, c.retryDue(began))
	require.True(t, c.retryDue(began.Add(retryAfter)))
	r = turn(c, began.Add(retryAfter), nil)
	require.Empty(t, r.Problems)
	require.Equal(t, 3, r.Claims.Len())
	require.False(t, c.retryDue(began.Add(time.Hour)))

	now := began.Add(time.Hour)
	c.socketFailed(now)
	require.True(t, c.retryDue(now), "the first failure after a quiet time is mended at once")
	turn(c, now, nil)
	c.socketFailed(now)
	require.False(t, c.retryDue(now), "the next has to wait")
	require.Equal(t, now.Add(retryAfter), c.retryAt)
}

// TestBackupsSayWhatTheyCannot: who is a backup reports the same problems as who is told to
// answer, for as long as they last.
func TestBackupsSayWhatTheyCannot(t *testing.T) {
	c := newCore("b", 1)
	eth1 := ifi(3, "eth1", "192.0.2.11/24")
	c.setLinks(time.Hour, links(eth1))
	require.NoError(t, c.acceptPlan(nodePlan(1, "192.0.2.200=a,b", "192.0.2.1=a,b", "192.0.2.201@eth7=a,b", "192.0.2.202@eth7=a,c")))
	want := []plan.Problem{
		{Address: ip("192.0.2.1"), Reason: reason.AddressIsLocal, Message: "192.0.2.1 is a gateway of this node"},
		{Address: ip("192.0.2.201"), Reason: reason.NodeNoInterface, Message: `there is no usable interface "eth7"`},
	}
	require.Equal(t, want, turn(c, began, nil).Problems)
	require.Equal(t, 2, c.backupCount(), "for the others somebody else answers")
	require.Nil(t, turn(c, began.Add(time.Minute), nil), "said once")
	require.Equal(t, []line{
		{slog.LevelWarn, "could not take over 192.0.2.1: 192.0.2.1 is a gateway of this node (plan 1.1)"},
		{slog.LevelWarn, `could not take over 192.0.2.201: there is no usable interface "eth7" (plan 1.1)`},
	}, c.logAggregator.flushLines(began, "1.1"))
	c.setLinks(time.Hour, links(eth1, ifi(4, "eth7", "198.51.100.7/24")))
	r := turn(c, began.Add(time.Hour), nil)
	require.Equal(t, want[:1], r.Problems)
	require.Zero(t, r.Claims.Len())
	require.Equal(t, 3, c.backupCount())
}

// TestNobodyHearsOfWhatFailed: a backup that cannot open its socket claims nothing, and
// tries again.
func TestNobodyHearsOfWhatFailed(t *testing.T) {
	c := newCore("b", 1)
	c.setLinks(time.Hour, links(ifi(3, "eth1", "192.0.2.11/24")))
	require.NoError(t, c.acceptPlan(nodePlan(1, "192.0.2.200=b")))
	r := turn(c, began, failures{ipv4: {3: errors.New("arp on eth1: no buffers")}})
	require.Zero(t, r.Claims.Len())
	c.configureFailover(time.Hour)
	c.reconcileClaims(time.Hour)
	require.Zero(t, c.failover.Claims().Len())
	require.NoError(t, c.acceptPlan(nodePlan(2, "192.0.2.200=b", "192.0.2.202=b")))
	turn(c, began.Add(retryAfter/2), nil)
	require.Equal(t, 1, c.failover.Claims().Len(), "not yet")
	turn(c, began.Add(retryAfter), nil)
	require.Equal(t, 2, c.failover.Claims().Len())
}

// TestAnInterfaceThatReturns: peers are unknown until they are heard again.
func TestAnInterfaceThatReturns(t *testing.T) {
	now := time.Hour
	c := newCore("a", 1)
	set := nodePlan(1, "192.0.2.200=a,b")
	set.Failover = plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []plan.Peer{{Node: "b"}}}
	require.NoError(t, c.acceptPlan(set))
	eth0 := ifi(2, "eth0", "192.0.2.10/24")
	c.setLinks(now, links(eth0))
	c.configureFailover(now)
	c.failover.Flush(now)
	require.NoError(t, c.failover.Receive(now, failover.Packet{From: "b", Incarnation: 2, Seq: 1, Heard: failover.Echo{Incarnation: 1, Seq: 1}, Detect: time.Second}))
	require.Equal(t, []string{"b"}, c.failover.Peers(failover.Up))
	eth0.Running = false
	c.setLinks(now, links(eth0))
	require.Equal(t, []string{"b"}, c.failover.Peers(failover.Up))
	eth0.Running = true
	c.setLinks(now, links(eth0))
	require.Equal(t, []string{"b"}, c.failover.Peers(failover.Unknown))
}

func TestLeave(t *testing.T) {
	c := newCore("a", 1)
	c.setLinks(time.Hour, links(ifi(2, "eth0", "192.0.2.10/24")))
	require.NoError(t, c.acceptPlan(nodePlan(1, "192.0.2.200=a", "192.0.2.10=a")))
	turn(c, began, nil)
	c.logAggregator.flushLines(began, "1.1")
	c.dropDesired()
	r := turn(c, began, nil)
	require.Zero(t, r.Claims.Len())
	require.Empty(t, r.Problems)
	require.Empty(t, r.Interfaces, "others get its addresses")
	require.Equal(t, map[string]uint64{endedLeaving: 1}, c.ended)
	require.Equal(t, []line{{text: "stopped answering for 192.0.2.200: the announcer ends (plan 1.1)"}}, c.logAggregator.flushLines(began, "1.1"))
}

func TestLogOfACore(t *testing.T) {
	c := newCore("a", 1)
	eth0 := ifi(2, "eth0", "192.0.2.10/24")
	var log []string
	now := began
	step := func() {
		now = now.Add(time.Hour)
		turn(c, now, nil)
		for _, l := range c.logAggregator.takeDue(now, c.appliedVersion.String()) {
			log = append(log, l.level.String()+" "+l.text)
		}
	}
	c.setLinks(time.Hour, links(eth0))
	require.NoError(t, c.acceptPlan(nodePlan(1, "192.0.2.200=a", "192.0.2.201=a", "192.0.2.202=a", "192.0.2.10=a")))
	step()
	require.NoError(t, c.acceptPlan(nodePlan(2, "192.0.2.200=b,a", "192.0.2.201=a", "192.0.2.10=a")))
	step()
	eth0.Running = false
	c.setLinks(time.Hour, links(eth0))
	step()
	step()
	require.Equal(t, map[string]uint64{startedByPlan: 3}, c.started)
	require.Equal(t, map[string]uint64{endedMoved: 1, endedWithdrawn: 1, endedProblem: 1}, c.ended)
	require.Equal(t, []string{
		"WARN not answering for 192.0.2.10: 192.0.2.10 is this node's own address on eth0 (plan 1.1)",
		"INFO answering for 3 addresses on eth0 (plan 1.1): 192.0.2.200, 192.0.2.201, 192.0.2.202",
		"INFO stopped answering for 192.0.2.200: given to b (plan 1.2)",
		"INFO stopped answering for 192.0.2.202: withdrawn (plan 1.2)",
		"WARN not answering for 192.0.2.201: the node has no interface that can carry an address (plan 1.2)",
		"WARN could not take over 192.0.2.200: the node has no interface that can carry an address (plan 1.2)",
	}, log)
}

func claimed(r plan.Report) []netip.Addr {
	var out []netip.Addr
	for c := range r.Claims.All() {
		out = append(out, c.Address)
	}
	return slices.Clip(out)
}
