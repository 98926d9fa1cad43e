package announcer_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/sight"
)

// keeper keeps plans in memory.
type keeper struct{ kept chan announcement.Set }

func newKeeper() *keeper { return &keeper{make(chan announcement.Set, 100)} }

func (k *keeper) Keep(set announcement.Set) { k.kept <- set }
func (k *keeper) Counts() (uint64, uint64)  { return uint64(len(k.kept)), 0 }
func (k *keeper) newest() announcement.Set {
	set := announcement.Set{}
	for len(k.kept) > 0 {
		set = <-k.kept
	}
	return set
}

// restartAll ends all announcers and starts them again, knowing what they kept.
func (b *bridged) restartAll() {
	b.t.Helper()
	for _, m := range b.nodes {
		b.end(m)
	}
	for _, m := range b.nodes {
		m.kept = m.keeper.newest()
		require.False(b.t, m.kept.Stamp.IsZero())
		b.start(m)
	}
}

// TestAllRestartWithoutALeader: exactly one answers again, under the plan that all kept. A
// leader that did not hear of that plan is refused, and one that confirms it is not.
func TestAllRestartWithoutALeader(t *testing.T) {
	b := newBridged(t, 3, true)
	b.plan(5, fast, vip4, vip6)
	first := b.nodes[0]
	b.awaitClaims(first, 2)
	b.restartAll()
	b.awaitClaims(first, 2)
	b.resolve(vip4, b.macOf(first))
	b.resolve(vip6, b.macOf(first))
	for _, m := range b.nodes[1:] {
		b.awaitPeers(m, 2)
		require.Empty(t, m.lastReport().Claims)
		require.True(t, m.announcer.Status().Kept)
	}

	b.planFor(first, 4, fast, vip4)
	require.Eventually(t, func() bool { return first.announcer.Status().Refused["stale"] == 1 }, patience, time.Millisecond)
	require.True(t, first.announcer.Status().Kept)
	b.planFor(first, 5, fast, vip4, vip6)
	require.Eventually(t, func() bool { return !first.announcer.Status().Kept }, patience, time.Millisecond)
	require.Len(t, first.lastReport().Claims, 2)
}

// TestAKeptPlanIsOld: another machine has got an address meanwhile. It is not taken from it,
// and nobody else is needed to tell.
func TestAKeptPlanIsOld(t *testing.T) {
	b := newBridged(t, 2, true)
	b.plan(5, fast, vip4, vip6)
	b.awaitClaims(b.nodes[0], 2)
	for _, m := range b.nodes {
		b.end(m)
	}
	b.host.Address(t, "host0", vip4+"/24")
	for _, m := range b.nodes {
		m.kept = m.keeper.newest()
		b.start(m)
	}
	b.awaitClaims(b.nodes[0], 1)
	b.awaitPeers(b.nodes[1], 1)
	require.Equal(t, netip.MustParseAddr(vip6), b.nodes[0].lastReport().Claims[0].Address)
	b.host.Change(t, "host0", func(i netlink.Link) error {
		address, err := netlink.ParseAddr(vip4 + "/24")
		if err != nil {
			return err
		}
		return netlink.AddrDel(i, address)
	})
	// Whoever asks next finds that nobody answers.
	require.Eventually(t, func() bool {
		return len(b.nodes[0].lastReport().Claims)+len(b.nodes[1].lastReport().Claims) == 2
	}, patience, time.Millisecond)
	b.resolve(vip4, b.macOf(b.nodes[len(b.nodes[1].lastReport().Claims)]))
}

// TestAKeptPlanOfAnotherCluster ends when a leader of this one speaks, whatever its stamps.
func TestAKeptPlanOfAnotherCluster(t *testing.T) {
	b := newBridged(t, 2, true)
	b.plan(5, fast, vip4)
	b.awaitClaims(b.nodes[0], 1)
	for _, m := range b.nodes {
		b.end(m)
	}
	for _, m := range b.nodes {
		m.kept = m.keeper.newest()
		m.kept.Cluster = "d"
		b.start(m)
	}
	b.awaitClaims(b.nodes[0], 1)
	b.plan(1, fast, vip6)
	for _, m := range b.nodes {
		require.Eventually(t, func() bool { return m.lastReport().Cluster == "c" }, patience, time.Millisecond)
	}
	b.resolve(vip6, b.macOf(b.nodes[0]))
	b.resolve(vip4, nil)
	b.awaitPeers(b.nodes[0], 1)
	require.Equal(t, announcement.Stamp{Term: 1, Revision: 1}, b.nodes[0].lastReport().Claims[0].Stamp)
	require.Zero(t, b.nodes[0].announcer.Status().Peers[sight.Down])
}
