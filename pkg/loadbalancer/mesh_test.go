package loadbalancer

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Peers hear which of a node's addresses are its own, as far as its interfaces have them, and hear of
// a change.
func TestFault_K2_2_PeersAreToldTheNodesOwnAddresses(t *testing.T) {
	w := town(t, nil, 3, 0)
	addresses := func(texts ...string) (out []netip.Addr) {
		for _, text := range texts {
			out = append(out, netip.MustParseAddr(text))
		}
		return out
	}
	w.ports["node0"] = []plan.Interface{{Name: "eth0", Prefixes: prefixes([]string{"192.0.2.2/24", "192.0.2.9/24", "192.0.2.10/24"})}}
	w.report("node0", nil)
	told := func() []netip.Addr {
		w.plan()
		i, ok := findPeer(w.plans["node1"].Failover, "node0")
		require.True(t, ok)
		return w.plans["node1"].Failover.Peers[i].Addresses
	}
	require.Empty(t, told())
	n := w.b.nodes["node0"]
	n.Addresses = addresses("192.0.2.9", "203.0.113.7", "192.0.2.9")
	w.b.SetNode(n)
	require.Equal(t, addresses("192.0.2.9"), told())
	n.Addresses = addresses("192.0.2.10", "192.0.2.2")
	w.b.SetNode(n)
	require.Equal(t, addresses("192.0.2.10", "192.0.2.2"), told())
}
