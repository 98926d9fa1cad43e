package announcer_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"baremetal.cloud/ccm/pkg/announcer/failover"
)

// long is for how many rounds nothing may happen: longer than fast takes to find a peer down.
const long = 60

// TestFault_K2_2_AddressesOfPeersMove: neither an address that moves from node to node, as
// those of keepalived and kube-vip do, nor another address from DHCP while no leader is there
// has a peer taken for down, and a node that starts meanwhile is found.
func TestFault_K2_2_AddressesOfPeersMove(t *testing.T) {
	for name, test := range map[string]struct {
		numbered      bool
		floating, old string
		renewed       string
	}{
		"IPv4":       {true, "192.0.2.2/24", "192.0.2.10/24", "192.0.2.77/24"},
		"link-local": {false, "fe80::2/64", "", "fe80::77/64"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBridged(t, 3, test.numbered)
			first, second := b.nodes[0], b.nodes[1]
			old := test.old
			if old == "" {
				old = b.carriers(first)[0].Prefixes[0].String()
			}
			first.space.Address(t, "eth0", test.floating) // Lower than the node's own.
			b.begin(fast, vip4)
			for _, m := range b.nodes {
				b.awaitPeers(m, 2)
			}
			b.awaitClaims(first, 1)

			first.dropAddress(t, test.floating)
			second.space.Address(t, "eth0", test.floating)
			b.staysQuiet("the floating address moved", b.nodes...)

			first.space.Address(t, "eth0", test.renewed)
			first.dropAddress(t, old)
			b.staysQuiet("the node has another address", b.nodes...)

			// As for a new life: its peers know no more than an old plan.
			first.kept = first.keeper.newest()
			b.end(first)
			b.awaitClaims(second, 1)
			b.start(first)
			for _, m := range b.nodes {
				b.awaitPeers(m, 2)
			}
		})
	}
}

// staysQuiet waits for long rounds of heartbeats, in which no peer is lost and no address moves.
func (b *bridged) staysQuiet(why string, nodes ...*member) {
	b.t.Helper()
	before := map[*member]uint64{}
	for _, m := range nodes {
		before[m] = m.announcer.Status().Sent
	}
	for _, m := range nodes {
		require.Eventually(b.t, func() bool {
			s := m.announcer.Status()
			require.Equal(b.t, 2, s.Peers[failover.Up], "%s: %s", why, m.name)
			return s.Sent >= before[m]+long*uint64(len(b.nodes)-1)
		}, patience, patience/1000)
	}
	require.Equal(b.t, 1, b.nodes[0].lastReport().Claims.Len(), why)
	for _, m := range b.nodes[1:] {
		require.Zero(b.t, m.lastReport().Claims.Len(), why)
	}
}

func (m *member) dropAddress(t *testing.T, prefix string) {
	t.Helper()
	p := netip.MustParsePrefix(prefix)
	m.space.Change(t, "eth0", func(l netlink.Link) error {
		return netlink.AddrDel(l, &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}})
	})
}

// TestAPeerWithoutIPv4IsHeard: a node that has lost its IPv4 address goes on being heard over IPv6,
// by peers that know nothing of that.
func TestAPeerWithoutIPv4IsHeard(t *testing.T) {
	b := newBridged(t, 3, true)
	b.begin(fast, vip6)
	for _, m := range b.nodes {
		b.awaitPeers(m, 2)
	}
	b.awaitClaims(b.nodes[0], 1)
	b.nodes[0].dropAddress(t, "192.0.2.10/24")
	b.staysQuiet("it has IPv6", b.nodes...)
}
