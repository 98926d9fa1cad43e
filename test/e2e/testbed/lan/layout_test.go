package lan

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// No prefix of a testbed may contain an address of another purpose.
func TestPrefixesAreApart(t *testing.T) {
	for _, separate := range []bool{false, true} {
		l, err := New("x", MaxNodes, separate)
		require.NoError(t, err)
		var prefixes []netip.Prefix
		for _, h := range []Pair{l.FRR.LAN, l.Nodes[0].Mgmt} {
			if h.V4.IsValid() {
				prefixes = append(prefixes, netip.PrefixFrom(h.V4, 24).Masked(), netip.PrefixFrom(h.V6, 64).Masked())
			}
		}
		prefixes = append(prefixes, l.PoolV4, l.PoolV6, l.ServiceV4, l.ServiceV6, l.ClusterV4, l.ClusterV6)
		for i, a := range prefixes {
			for _, b := range prefixes[i+1:] {
				require.False(t, a.Overlaps(b), "%s and %s", a, b)
			}
		}
	}
}

func TestEveryAddressIsUnique(t *testing.T) {
	l, err := New("x", MaxNodes, true)
	require.NoError(t, err)
	seen := map[netip.Addr]string{}
	for _, h := range l.Hosts() {
		for _, a := range []netip.Addr{h.LAN.V4, h.LAN.V6, h.Mgmt.V4, h.Mgmt.V6} {
			if a.IsValid() {
				require.Empty(t, seen[a], "%s of %s", a, h.Name)
				seen[a] = h.Name
			}
		}
	}
	for _, n := range l.Nodes {
		require.True(t, l.ClusterV4.Overlaps(n.PodV4) && l.ClusterV6.Overlaps(n.PodV6), n.Name)
		last := n.PodAddress(254)
		require.True(t, n.PodV4.Contains(last.V4) && n.PodV6.Contains(last.V6))
	}
}

func TestPoolsHoldTwoThousand(t *testing.T) {
	l, err := New("x", 1, false)
	require.NoError(t, err)
	require.LessOrEqual(t, l.PoolV4.Bits(), 32-11)
	require.LessOrEqual(t, l.PoolV6.Bits(), 128-11)
}

// With separate management the control plane has no port on the LAN, and Pods are
// reached through the nodes' management addresses.
func TestSeparateManagement(t *testing.T) {
	l, err := New("x", 2, true)
	require.NoError(t, err)
	require.False(t, l.ControlPlane.LAN.V4.IsValid())
	scripts := map[string]string{}
	for _, s := range l.Scripts() {
		scripts[s.NetNS] = s.Commands
	}
	require.NotContains(t, scripts[l.LAN], "link add cp ")
	require.Contains(t, scripts[l.Mgmt], "link add cp type veth peer name eth0 ")
	require.Contains(t, scripts[l.Mgmt], "link add node1 type veth peer name eth1 ")
	require.Contains(t, scripts[l.Nodes[0].NetNS], "route replace 10.128.2.0/24 via 172.31.0.12\n")
}

func TestEveryNamespaceIsOurs(t *testing.T) {
	l, err := New(ID("/a"), 3, true)
	require.NoError(t, err)
	require.NotEqual(t, ID("/a"), ID("/b"))
	for _, s := range l.Scripts() {
		require.True(t, strings.HasPrefix(s.NetNS, Prefix(ID("/a"))), s.NetNS)
	}
}

func TestNodesAreCounted(t *testing.T) {
	for _, n := range []int{-1, 0, MaxNodes + 1} {
		_, err := New("x", n, false)
		require.Error(t, err, n)
	}
}
