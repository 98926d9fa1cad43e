package netstate

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestRoutesAreBounded: of a million routes those are kept that tell interfaces apart, whatever
// their order: what is on-link, default routes and the shortest prefixes.
func TestRoutesAreBounded(t *testing.T) {
	r := newRoutes(nil)
	gateway := netip.MustParseAddr("192.0.2.1")
	by := func(index int) []hop { return []hop{{index: index, gateway: gateway}} }
	v4 := func(i, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), bits).Masked()
	}
	v6 := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 16), byte(i >> 8), byte(i)}), 64)
	}
	for i := range 20_000 {
		r.addRoute(unix.RT_TABLE_MAIN, v4(i, 32), 0, by(2))
		r.addRoute(unix.RT_TABLE_MAIN, v6(i), 0, by(2))
		if i < 1000 {
			r.addRoute(unix.RT_TABLE_MAIN, v4(i<<8, 24), 0, []hop{{index: 3}})
		}
	}
	r.addRoute(unix.RT_TABLE_MAIN, netip.MustParsePrefix("0.0.0.0/0"), 200, by(3))
	r.addRoute(unix.RT_TABLE_MAIN, netip.MustParsePrefix("0.0.0.0/0"), 100, by(2))
	r.addRoute(unix.RT_TABLE_MAIN, netip.MustParsePrefix("10.0.0.0/8"), 0, by(3))
	require.LessOrEqual(t, len(r.best), maxRoutes+1000)
	require.Len(t, r.segments[3], maxSegments)
	out := r.destinations()
	require.Len(t, out[3], plan.MaxDestinations)
	require.Contains(t, out[2], plan.Destination{Prefix: netip.MustParsePrefix("0.0.0.0/0")})
	require.NotContains(t, out[3], plan.Destination{Prefix: netip.MustParsePrefix("0.0.0.0/0")})
}

// TestFault_K2_10_VRF: an interface in a VRF is no port, and what its table has leads there.
func TestFault_K2_10_VRF(t *testing.T) {
	i := Interface{Index: 2, Name: "eth0", MAC: []byte{2, 0, 0, 0, 0, 1}, Up: true, Running: true, Broadcast: true, Master: 7, MasterKind: "vrf"}
	require.NoError(t, i.Carries())
	i.MasterKind = "bridge"
	require.Error(t, i.Carries())
	r := newRoutes(map[int]int{7: 100})
	for _, text := range []string{"192.0.2.0/24", "2001:db8::/64"} {
		r.addRoute(100, netip.MustParsePrefix(text), 0, []hop{{index: 2}})
		r.addRoute(101, netip.MustParsePrefix(text), 0, []hop{{index: 3}}) // A table of policy rules.
	}
	of := addresses{usable: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24"), netip.MustParsePrefix("2001:db8::10/64")}}
	require.Len(t, r.destinations()[2], 2)
	require.Empty(t, r.destinations()[3])
	for index := 2; index < 4; index++ {
		require.True(t, r.sendsIPv4(index, of))
		require.True(t, r.sendsIPv6(index, of))
	}
}
