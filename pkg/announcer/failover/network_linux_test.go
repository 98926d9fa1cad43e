package failover

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/internal/testlan"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestFault_K1_4_ForgedHeartbeats: a machine that sends as fast as it can to the port, also
// with the address of a peer, makes the node read no more than 100 datagrams a second, and none
// of a peer's is lost.
func TestFault_K1_4_ForgedHeartbeats(t *testing.T) {
	for name, to := range map[string]netip.Addr{"IPv4": netip.MustParseAddr("192.0.2.2"), "IPv6": netip.MustParseAddr("fe80::2%lan")} {
		t.Run(name, func(t *testing.T) {
			a, b := testlan.New(t), testlan.New(t)
			testlan.Veth(t, a, "lan", b, "lan")
			for i, n := range []*testlan.Namespace{a, b} {
				last := string(rune('1' + i))
				n.Address(t, "lan", "192.0.2."+last+"/24")
				n.Address(t, "lan", "fe80::"+last+"/64")
			}
			a.AwaitUp(t, "lan")
			b.AwaitUp(t, "lan")
			var received atomic.Uint64
			receiver := NewNetwork(func(got Arrival) {
				if got.Source.WithZone("") != to.Prev().WithZone("") {
					t.Errorf("from %s", got.Source)
				}
				received.Add(1)
			}, func() { t.Error("a socket failed") })
			sender := NewNetwork(func(Arrival) { t.Error("nothing is sent to it") }, func() { t.Error("a socket failed") })
			sealer := NewSealer(keyAB, "a", "b")
			began := Now()
			from := open(t, a, sender, NewKeyring("a", []plan.Peer{{Node: "b", Key: keyAB}}), to.Is6())
			open(t, b, receiver, ringB, to.Is6())

			const peers, forgeries = 200, 200
			forged := sealer.Seal(packet())
			forged[pairOffset]++
			var flood net.Conn
			var err error
			a.Do(func() { flood, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, Port))) })
			require.NoError(t, err)
			defer func() { _ = flood.Close() }()
			// The kernel keeps few packets for a neighbour that it has yet to resolve.
			first := packet()
			first.Seq = peers + 1
			require.NoError(t, sender.Send(from, netip.AddrPortFrom(to, Port), sealer.Seal(first), false))
			require.Eventually(t, func() bool { return received.Load() == 1 }, time.Minute, time.Millisecond)
			for i := range peers {
				for range forgeries {
					_, err := flood.Write(forged)
					require.NoError(t, err)
				}
				p := packet()
				p.Seq = uint64(i + 1)
				require.NoError(t, sender.Send(from, netip.AddrPortFrom(to, Port), sealer.Seal(p), false))
			}
			require.Eventually(t, func() bool { return received.Load() == 1+peers }, time.Minute, time.Millisecond)
			// One of them is still read that comes with a hop limit of a router.
			require.Eventually(t, func() bool { return receiver.Dropped()[ErrHopLimit.Error()] > 0 }, time.Minute, time.Millisecond)
			read := receiver.Dropped()[ErrHopLimit.Error()] + receiver.Dropped()[ErrStranger.Error()]
			require.LessOrEqual(t, float64(read), 1+(Now()-began).Seconds()*othersRate)
			sender.Close()
			receiver.Close()
		})
	}
}

// open has n listen on the interface of space.
func open(t *testing.T, space *testlan.Namespace, n *Network, ring *Keyring, ipv6 bool) Socket {
	t.Helper()
	s := Socket{Index: space.Interface(t, "lan").Index, Name: "lan", IPv6: ipv6}
	var err error
	space.Do(func() { err = n.Set(ring, map[Socket]bool{s: true}) })
	require.NoError(t, err)
	return s
}

// TestTwoDoNotShareThePort: a second process that listens gets an error, not half of the packets.
func TestTwoDoNotShareThePort(t *testing.T) {
	a, b := testlan.New(t), testlan.New(t)
	testlan.Veth(t, a, "lan", b, "lan")
	one, two := NewNetwork(func(Arrival) {}, func() {}), NewNetwork(func(Arrival) {}, func() {})
	s := open(t, a, one, ringB, false)
	var err error
	a.Do(func() { err = two.Set(ringB, map[Socket]bool{s: true}) })
	require.ErrorContains(t, err, "address already in use")
	open(t, a, one, NewKeyring("b", nil), false) // Another filter, on the same sockets.
	one.Close()
	open(t, a, two, ringB, false)
	two.Close()
}

// TestFault_K1_4_DeadMachinesHoldUpNobody: the kernel keeps what goes to machines that do not
// answer for their addresses. That neither keeps the owner waiting, nor takes room from what goes to
// a peer that is there.
func TestFault_K1_4_DeadMachinesHoldUpNobody(t *testing.T) {
	for name, addresses := range map[string]string{"IPv4": "192.0.2.", "IPv6": "fe80::"} {
		t.Run(name, func(t *testing.T) {
			a, b := testlan.New(t), testlan.New(t)
			testlan.Veth(t, a, "lan", b, "lan")
			for i, n := range []*testlan.Namespace{a, b} {
				n.Address(t, "lan", "192.0.2."+string(rune('1'+i))+"/24")
				n.Address(t, "lan", "fe80::"+string(rune('1'+i))+"/64")
			}
			a.AwaitUp(t, "lan")
			b.AwaitUp(t, "lan")
			var received atomic.Uint64
			receiver := NewNetwork(func(Arrival) { received.Add(1) }, func() { t.Error("a socket failed") })
			sender := NewNetwork(func(Arrival) { t.Error("nothing is sent to it") }, func() { t.Error("a socket failed") })
			defer sender.Close()
			defer receiver.Close()
			sealer := NewSealer(keyAB, "a", "b")
			ipv6 := name == "IPv6"
			from := open(t, a, sender, NewKeyring("a", []plan.Peer{{Node: "b", Key: keyAB}}), ipv6)
			open(t, b, receiver, ringB, ipv6)
			to := func(last string) netip.AddrPort {
				address := netip.MustParseAddr(addresses + last)
				if ipv6 {
					address = address.WithZone("lan")
				}
				return netip.AddrPortFrom(address, Port)
			}
			const dead, packets = 10, 40 // Ten machines and four seconds.
			large, began := make([]byte, 1200), Now()
			for n := range packets {
				for i := range dead {
					require.NoError(t, sender.Send(from, to("1"+string(rune('0'+i))), large, true))
				}
				p := packet()
				p.Seq = uint64(n + 1)
				require.NoError(t, sender.Send(from, to("2"), sealer.Seal(p), false))
			}
			require.Less(t, Now()-began, time.Second)
			require.Eventually(t, func() bool { return received.Load() == packets }, time.Minute, time.Millisecond)
		})
	}
}
