package loadbalancer

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestFault_K1_2_PeersAreToldWhatTheyNeed: however many interfaces and prefixes a node
// reports, its peers are told few of them: prefixes that both are on, and all names and
// hardware addresses.
func TestFault_K1_2_PeersAreToldWhatTheyNeed(t *testing.T) {
	own := networksOf([]plan.Interface{
		{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("10.0.0.9/8")}},
		{Name: "eth1", Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64")}},
	})
	require.Len(t, own, 3)

	var liar []plan.Interface
	for i := range 64 {
		f := plan.Interface{Name: fmt.Sprint("eth", i), MAC: fmt.Sprintf("02:00:00:00:00:%02x", i)}
		for p := range 32 {
			f.Prefixes = append(f.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), byte(p)}), 8))
		}
		liar = append(liar, f)
	}
	told := sharedInterfaces(own, liar)
	count := 0
	for i, f := range told {
		require.Equal(t, liar[i].MAC, f.MAC)
		count += len(f.Prefixes)
	}
	require.Len(t, told, 64)
	require.Equal(t, maxPeerPrefixes, count)
	require.Less(t, len(networksOf(liar)), 2, "one network, however many addresses")

	honest := sharedInterfaces(own, []plan.Interface{
		{Name: "docker0", Prefixes: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}},
		{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/8"), netip.MustParsePrefix("fe80::2/64"), netip.MustParsePrefix("198.51.100.1/24")}},
		{Name: "eth1", Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8::2/64")}},
	})
	require.Equal(t, []plan.Interface{
		{Name: "docker0"},
		{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/8"), netip.MustParsePrefix("fe80::2/64")}},
		{Name: "eth1", Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8::2/64")}},
	}, honest)
}
