package netstate_test

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	ndpcodec "github.com/mdlayher/ndp"
	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/internal/testlan"
	"baremetal.cloud/ccm/pkg/announcer/netstate"
)

// advertisement is what router i of very many sends to all nodes: that it is a default gateway, and a
// prefix that is on the link.
func advertisement(t *testing.T, i int) []byte {
	t.Helper()
	mac := net.HardwareAddr{2, 0, 0, 0, byte(i >> 8), byte(i)}
	from, all := routerOf(i), netip.MustParseAddr("ff02::1")
	message, err := ndpcodec.MarshalMessageChecksum(&ndpcodec.RouterAdvertisement{
		CurrentHopLimit: 64, RouterLifetime: time.Hour,
		Options: []ndpcodec.Option{&ndpcodec.PrefixInformation{
			PrefixLength: 64, OnLink: true, AutonomousAddressConfiguration: true, ValidLifetime: time.Hour, PreferredLifetime: time.Hour,
			Prefix: prefixOf(i).Addr(),
		}},
	}, from, all)
	require.NoError(t, err)
	frame := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac...)
	frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0, byte(len(message)>>8), byte(len(message)), 58, 255)
	return append(append(append(frame, from.AsSlice()...), all.AsSlice()...), message...)
}

func routerOf(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: 2, 14: byte(i >> 8), 15: byte(i)})
}

func prefixOf(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 5, 0, byte(i >> 8), byte(i)}), 64)
}

// TestFault_K1_4_ForgedRouterAdvertisements: a machine on the LAN makes a node's kernel change its
// routes and addresses hundreds of times a second. The node looks five times, and then once a second,
// and what its administrator changes meanwhile it sees as ever.
func TestFault_K1_4_ForgedRouterAdvertisements(t *testing.T) {
	const routers = 400
	node, lan := testlan.New(t), testlan.New(t)
	node.Do(func() { _ = os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_ra", []byte("2"), 0o644) })
	testlan.Veth(t, node, "eth0", lan, "port0")
	snapshots := watch(t, node)
	await(t, snapshots, "eth0", func(s netstate.Snapshot) bool {
		i, ok := s.Find("eth0")
		return ok && i.Carries() == nil && len(i.LinkLocal) > 0
	})
	sender := lan.Sender(t, "port0")
	began, seen := time.Now(), 0
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for i := range routers {
		sender.Send(advertisement(t, i))
		<-pace.C
	}
	await(t, snapshots, "the last of them", func(s netstate.Snapshot) bool {
		seen++
		return slices.Contains(s.Gateways, routerOf(routers-1))
	})
	require.LessOrEqual(t, seen, 5+int(time.Since(began)/time.Second)+2)

	began, seen = time.Now(), 0
	for i := range routers {
		sender.Send(advertisement(t, routers+i))
	}
	node.Address(t, "eth0", "192.0.2.10/24")
	await(t, snapshots, "an address of the administrator's", func(s netstate.Snapshot) bool {
		seen++
		i, _ := s.Find("eth0")
		return slices.Contains(i.Prefixes, netip.MustParsePrefix("192.0.2.10/24"))
	})
	require.LessOrEqual(t, seen, 3+int(time.Since(began)/time.Second))
}
