package announcer

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/link"
	"baremetal.cloud/ccm/pkg/announcer/sight"
	"baremetal.cloud/ccm/pkg/reason"
)

// gate is a wire that lets datagrams out or not.
type gate struct {
	closed bool
	sent   int
}

func (g *gate) Set(*sight.Keyring, map[sight.Socket]bool) error { return nil }
func (g *gate) Send(sight.Socket, netip.AddrPort, []byte, bool) error {
	if g.closed {
		return errors.New("operation not permitted")
	}
	g.sent++
	return nil
}
func (g *gate) Drop(error)                 {}
func (g *gate) Dropped() map[string]uint64 { return nil }
func (g *gate) Close()                     {}

// TestFault_K2_1_FailedSendMovesNoFence: packets that did not leave the node tell peers
// nothing. The node may answer for as long as after the last that did, and then gives its
// addresses up, and says why; when packets leave again it listens first.
func TestFault_K2_1_FailedSendMovesNoFence(t *testing.T) {
	c, g := newCore("a", 1), &gate{}
	n := &neighbours{network: g}
	set := plan(1, "192.0.2.200=a,b", "2001:db8::200=a,b")
	set.Sight = announcement.Sight{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3, Peers: []announcement.Peer{{
		Node: "b", Interfaces: []announcement.Interface{{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24")}}},
	}}}
	require.NoError(t, c.offer(set))
	at := time.Hour
	c.see(at, links(ifi(2, "eth0", "192.0.2.10/24", "2001:db8::10/64")))
	c.configure(at)
	require.NoError(t, n.set(at, c))
	step := func() {
		at += 100 * time.Millisecond
		c.muteBy(at, n.mute(at, c.sight.Detect()))
		c.configure(at)
		c.settle(at)
		n.send(at, c.sight)
	}
	step()
	require.NotZero(t, g.sent)
	left := at
	g.closed = true
	for range 3 {
		require.Empty(t, c.unsent)
		step()
		require.Equal(t, int64(left+300*time.Millisecond), n.deadline.Load())
	}
	step()
	require.Equal(t, int64(left+300*time.Millisecond), n.deadline.Load(), "the fence stays")
	for _, vip := range []string{"192.0.2.200", "2001:db8::200"} {
		require.Equal(t, &announcement.Problem{
			Address: ip(vip), Reason: reason.HeartbeatsNotSent, Message: "heartbeats cannot be sent on eth0: operation not permitted",
		}, c.options[ip(vip)].problem)
	}
	g.closed = false
	step()
	require.Equal(t, int64(at+300*time.Millisecond), n.deadline.Load())
	step()
	require.Empty(t, c.unsent)
	require.Nil(t, c.options[ip("192.0.2.200")].problem)
	require.True(t, c.sight.Claim(ip("192.0.2.200")).IsZero(), "it listens first")
}

// TestFault_K2_1_FamilyComesBack: an interface that sends a family again is listened on first.
func TestFault_K2_1_FamilyComesBack(t *testing.T) {
	able := ifi(2, "eth0", "192.0.2.10/24", "2001:db8::10/64")
	for name, spoil := range map[string]func(*link.Interface){
		"IPv4": func(i *link.Interface) { i.NoIPv4 = true },
		"IPv6": func(i *link.Interface) { i.NoIPv6 = true },
	} {
		without := able
		spoil(&without)
		require.True(t, returned(links(without), links(able)), name)
		require.False(t, returned(links(able), links(without)), name)
		require.False(t, returned(links(able), links(able)), name)
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
		for what, spoil := range map[string]func(*link.Interface){
			"carrier": func(i *link.Interface) { i.Running = false },
			"IPv4":    func(i *link.Interface) { i.NoIPv4 = true },
			"IPv6":    func(i *link.Interface) { i.NoIPv6 = true },
		} {
			before := pod
			spoil(&before)
			require.False(t, returned(links(eth0, before), links(eth0, pod)), "%s %s", name, what)
		}
	}
}

// TestFault_K2_10_PortsOfABond: by the hardware address of a bond's port a peer is known, and a
// port that joins makes another interface of the bond.
func TestFault_K2_10_PortsOfABond(t *testing.T) {
	bond := ifi(2, "bond0", "192.0.2.10/24")
	peer := announcement.Peer{Node: "b", Interfaces: []announcement.Interface{{Name: "bond0", MAC: "02:00:00:00:00:0b", Ports: []string{"02:00:00:00:00:0c"}}}}
	s := newSegments("a", links(bond), []announcement.Peer{peer}, nil)
	require.Equal(t, "b", s.nodes["02:00:00:00:00:0c"])
	p := ports{}
	p.add(ip("192.0.2.200"), []link.Interface{bond})
	joined := bond
	joined.Ports = []net.HardwareAddr{{2, 0, 0, 0, 0, 0xd}}
	require.NotEqual(t, keyOf(ipv4, bond), keyOf(ipv4, joined))
	p.remove(ip("192.0.2.200"), []link.Interface{bond})
	p.add(ip("192.0.2.200"), []link.Interface{joined})
	require.Equal(t, joined.Ports, p.of(ipv4)[0].Ports)
}

// TestFault_K2_10_AnnouncedAgain: what is answered on an interface that asks for it is announced
// once more, and no more often than in a burst, however often it asks.
func TestFault_K2_10_AnnouncedAgain(t *testing.T) {
	c := newCore("a", 1)
	c.see(time.Hour, links(ifi(2, "eth0", "192.0.2.10/24", "2001:db8::10/64"), ifi(3, "eth1", "198.51.100.10/24")))
	require.NoError(t, c.offer(plan(1, "192.0.2.200=a", "2001:db8::200=a", "198.51.100.200=a")))
	turn(c, began, nil)
	now := began
	for range 100 {
		now = now.Add(time.Second)
		c.schedule.take(now, mostPace)
	}
	c.notifyPeers(now, map[int]bool{2: true})
	require.Equal(t, []netip.Addr{ip("192.0.2.200"), ip("2001:db8::200")}, c.schedule.take(now, mostPace))
	c.notifyPeers(now, map[int]bool{2: true})
	require.Empty(t, c.schedule.take(now, mostPace), "the burst goes on")
}
