package announcer

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// TestFault_K2_1_FailedSendMovesNoFence: packets that did not leave the node tell peers
// nothing. While they are heard the node answers for as long as after the last that did, and another
// one has the address then. Why is said; when packets leave again the node takes nothing back.
func TestFault_K2_1_FailedSendMovesNoFence(t *testing.T) {
	l := newContest(t, "node0", "node1", "node2")
	l.begin(contested.String())
	mute := l.stations["node0"]
	left := mute.transport.deadline.Load()
	l.mute["node0"] = true
	for until := l.now + 450*time.Millisecond; l.now < until; l.run(hop) {
		require.LessOrEqual(t, len(l.answering(contested)), 1)
		require.Equal(t, left, mute.transport.deadline.Load(), "the fence stays")
	}
	l.keeps("node1", 300*time.Millisecond)
	problem, _ := mute.core.problems.Find(contested)
	require.Equal(t, plan.Problem{
		Address: contested, Reason: reason.HeartbeatsNotSent, Message: "heartbeats cannot be sent on lan0: operation not permitted",
	}, problem)

	delete(l.mute, "node0")
	l.keeps("node1", 5*time.Second)
	require.Zero(t, mute.core.problems.Len())
}

// TestFault_K2_1_MuteAndTheOnlyOneAble: a node that sends nothing goes on with what no other can
// answer for.
func TestFault_K2_1_MuteAndTheOnlyOneAble(t *testing.T) {
	l := newContest(t, "node0", "node1", "node2")
	l.plan(l.names, nodePlan(1, contested.String()+"=node0", "192.0.2.201=node0,node1"))
	l.run(10 * time.Second)
	l.mute["node0"] = true
	l.run(time.Second)
	l.keeps("node0", 5*time.Second)
	require.Equal(t, []string{"node1"}, l.answering(ip("192.0.2.201")))
	require.Equal(t, []netip.Addr{ip("192.0.2.201")}, problemsOf(l.stations["node0"]))
}

func problemsOf(s *contestant) (out []netip.Addr) {
	for _, p := range s.core.listed {
		out = append(out, p.Address)
	}
	return out
}

// TestFault_K2_1_NoHeartbeatLeavesAnyNode: where a firewall keeps all nodes from sending heartbeats
// one that answers goes on. Those that take it for dead learn otherwise by what it announces.
func TestFault_K2_1_NoHeartbeatLeavesAnyNode(t *testing.T) {
	for name, test := range map[string]struct {
		stagger time.Duration
		owner   string
	}{
		"at once":             {0, "node0"},
		"one after the other": {400 * time.Millisecond, "node2"}, // The last to speak.
	} {
		t.Run(name, func(t *testing.T) {
			l := newContest(t, "node0", "node1", "node2")
			l.begin(contested.String())
			for _, node := range l.names {
				l.mute[node] = true
				l.run(test.stagger)
			}
			l.run(time.Second)
			l.keeps(test.owner, 10*time.Second)
			for _, node := range l.names {
				require.Zero(t, l.stations[node].core.problems.Len(), "%s is as able as all others", node)
			}
			clear(l.mute)
			l.keeps(test.owner, 5*time.Second)
		})
	}
}

// keeps wants owner to be the only one that answers, and to answer all the time.
func (l *contest) keeps(owner string, how time.Duration) {
	l.t.Helper()
	for until := l.now + how; l.now < until; l.run(hop) {
		require.Equal(l.t, []string{owner}, l.answering(contested), l.now)
	}
}

// TestFault_K2_1_FamilyComesBack: an interface that sends a family again is listened on first.
func TestFault_K2_1_FamilyComesBack(t *testing.T) {
	able := ifi(2, "eth0", "192.0.2.10/24", "2001:db8::10/64")
	for name, spoil := range map[string]func(*netstate.Interface){
		"IPv4": func(i *netstate.Interface) { i.NoIPv4 = true },
		"IPv6": func(i *netstate.Interface) { i.NoIPv6 = true },
	} {
		without := able
		spoil(&without)
		require.True(t, interfaceReturned(links(without), links(able)), name)
		require.False(t, interfaceReturned(links(able), links(without)), name)
		require.False(t, interfaceReturned(links(able), links(able)), name)
	}
}

// TestFault_K2_1_PodsComeAndGo: the node's end of a Pod's veth pair comes up, and gets its route and
// its link-local address after that. That is no reason to forget peers, after which all that the
// node and they claim is announced again.
func TestFault_K2_1_PodsComeAndGo(t *testing.T) {
	eth0 := ifi(2, "eth0", "192.0.2.10/24")
	for _, name := range []string{"cali0123456789a", "lxc0123456789ab", "veth01234567"} {
		pod := ifi(3, name)
		pod.Kind = "veth"
		for what, spoil := range map[string]func(*netstate.Interface){
			"carrier": func(i *netstate.Interface) { i.Running = false },
			"IPv4":    func(i *netstate.Interface) { i.NoIPv4 = true },
			"IPv6":    func(i *netstate.Interface) { i.NoIPv6 = true },
		} {
			before := pod
			spoil(&before)
			require.False(t, interfaceReturned(links(eth0, before), links(eth0, pod)), "%s %s", name, what)
		}
	}
}

// TestFault_K2_10_PortsOfABond: by the hardware address of a bond's port a peer is known, and a
// port that joins makes another interface of the bond.
func TestFault_K2_10_PortsOfABond(t *testing.T) {
	bond := ifi(2, "bond0", "192.0.2.10/24")
	peer := plan.Peer{Node: "b", Interfaces: []plan.Interface{{Name: "bond0", MAC: "02:00:00:00:00:0b", Ports: []string{"02:00:00:00:00:0c"}}}}
	s := newSubnets("a", links(bond), []plan.Peer{peer}, nil)
	require.Equal(t, "b", s.nodes["02:00:00:00:00:0c"])
	p := ports{}
	p.addAddress(ip("192.0.2.200"), []netstate.Interface{bond})
	joined := bond
	joined.Ports = []net.HardwareAddr{{2, 0, 0, 0, 0, 0xd}}
	require.NotEqual(t, keyOf(ipv4, bond), keyOf(ipv4, joined))
	p.removeAddress(ip("192.0.2.200"), []netstate.Interface{bond})
	p.addAddress(ip("192.0.2.200"), []netstate.Interface{joined})
	require.Equal(t, joined.Ports, p.portsOf(ipv4)[0].Ports)
}

// TestFault_K2_10_AnnouncedAgain: what is answered on an interface that asks for it is announced
// once more, and no more often than in a burst, however often it asks.
func TestFault_K2_10_AnnouncedAgain(t *testing.T) {
	c := newCore("a", 1)
	c.setLinks(time.Hour, links(ifi(2, "eth0", "192.0.2.10/24", "2001:db8::10/64"), ifi(3, "eth1", "198.51.100.10/24")))
	require.NoError(t, c.acceptPlan(nodePlan(1, "192.0.2.200=a", "2001:db8::200=a", "198.51.100.200=a")))
	turn(c, began, nil)
	now := began
	for range 100 {
		now = now.Add(time.Second)
		c.schedule.take(now, mostBatch)
	}
	c.notifyPeers(now, map[int]bool{2: true})
	require.Equal(t, []netip.Addr{ip("192.0.2.200"), ip("2001:db8::200")}, c.schedule.take(now, mostBatch))
	c.notifyPeers(now, map[int]bool{2: true})
	require.Empty(t, c.schedule.take(now, mostBatch), "the burst goes on")
}
