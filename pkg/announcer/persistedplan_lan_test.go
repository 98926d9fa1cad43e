package announcer_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// keeper keeps plans in memory.
type keeper struct{ kept chan plan.NodePlan }

func newKeeper() *keeper { return &keeper{make(chan plan.NodePlan, 100)} }

func (k *keeper) Keep(set plan.NodePlan)   { k.kept <- set }
func (k *keeper) Counts() (uint64, uint64) { return uint64(len(k.kept)), 0 }
func (k *keeper) newest() plan.NodePlan {
	set := plan.NodePlan{}
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
		require.False(b.t, m.kept.Version.IsZero())
		b.start(m)
	}
}

// holders returns who claims what, as nodes reported last.
func (b *bridged) holders() map[string][]*member {
	out := map[string][]*member{}
	for _, m := range b.nodes {
		for c := range m.lastReport().Claims.All() {
			out[c.Address.String()] = append(out[c.Address.String()], m)
		}
	}
	return out
}

// settled waits until each of the addresses is claimed by one node, to which the host
// resolves it, and no other is by any. It returns who claims the first of them. On a busy
// machine an address may move meanwhile.
func (b *bridged) settled(addresses ...string) *member {
	b.t.Helper()
	agreed := func() *member {
		holders := b.holders()
		for _, a := range addresses {
			if len(holders[a]) != 1 || !bytes.Equal(b.neighbour(a), b.macOf(holders[a][0])) {
				return nil
			}
		}
		if len(holders) != len(addresses) {
			return nil
		}
		return holders[addresses[0]][0]
	}
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-again.C {
		if m := agreed(); m != nil {
			return m
		}
	}
	require.Fail(b.t, "nobody agrees who answers", "%v", b.holders())
	return nil
}

// TestAllRestartWithoutALeader: exactly one answers again, under the plan that all kept. A
// leader that did not hear of that plan is refused, and one that confirms it is not.
func TestAllRestartWithoutALeader(t *testing.T) {
	b := newBridged(t, 3, true)
	b.plan(5, fast, vip4, vip6)
	b.settled(vip4, vip6)
	b.restartAll()
	holder := b.settled(vip4, vip6)
	for _, m := range b.nodes {
		b.awaitPeers(m, 2)
		require.True(t, m.announcer.Status().Persisted)
	}
	b.planFor(holder, 4, fast, vip4)
	require.Eventually(t, func() bool { return holder.announcer.Status().Refused["stale"] == 1 }, patience, time.Millisecond)
	require.True(t, holder.announcer.Status().Persisted)
	b.planFor(holder, 5, fast, vip4, vip6)
	require.Eventually(t, func() bool { return !holder.announcer.Status().Persisted }, patience, time.Millisecond)
	b.settled(vip4, vip6)
}

// TestAPersistedPlanIsOld: another machine has got an address meanwhile. It is not taken from it,
// and nobody else is needed to tell.
func TestAPersistedPlanIsOld(t *testing.T) {
	b := newBridged(t, 2, true)
	b.plan(5, fast, vip4, vip6)
	b.settled(vip4, vip6)
	for _, m := range b.nodes {
		b.end(m)
	}
	b.host.Address(t, "host0", vip4+"/24")
	for _, m := range b.nodes {
		m.kept = m.keeper.newest()
		b.start(m)
	}
	b.settled(vip6)
	b.host.Change(t, "host0", func(i netlink.Link) error {
		address, err := netlink.ParseAddr(vip4 + "/24")
		if err != nil {
			return err
		}
		return netlink.AddrDel(i, address)
	})
	b.settled(vip4, vip6) // Whoever asks next finds that nobody answers.
}

// TestAPersistedPlanOfAnotherCluster ends when a leader of this one speaks, whatever its versions.
func TestAPersistedPlanOfAnotherCluster(t *testing.T) {
	b := newBridged(t, 2, true)
	b.plan(5, fast, vip4)
	b.settled(vip4)
	for _, m := range b.nodes {
		b.end(m)
	}
	for _, m := range b.nodes {
		m.kept = m.keeper.newest()
		m.kept.Cluster = "d"
		b.start(m)
	}
	b.settled(vip4)
	b.plan(1, fast, vip6)
	for _, m := range b.nodes {
		require.Eventually(t, func() bool { return m.lastReport().Cluster == "c" }, patience, time.Millisecond)
	}
	holder := b.settled(vip6)
	b.resolve(vip4, nil)
	claim, _ := holder.lastReport().Claims.Find(netip.MustParseAddr(vip6))
	require.Equal(t, plan.Version{Term: 1, Revision: 1}, claim.Version)
}
