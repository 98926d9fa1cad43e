package loadbalancer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// town is a world of n nodes in three zones, with a pool for all of them, one for each of
// several racks, and Services of both policies. Failover is on.
func town(t testing.TB, random *rand.Rand, n, services int) *world {
	w := newWorld(t)
	racks := max(1, n/40)
	w.run("pool all 10.0.0.0/12\nfailover 100ms 3\nleader 1\n")
	for i := range min(racks, 8) {
		w.run(fmt.Sprintf("pool rack%d 10.%d.0.0/16 nodes=rack=%d\n", i, 32+i, i))
	}
	for i := range n {
		w.townNode(i, racks)
	}
	for i := range services {
		switch i % 5 {
		case 0:
			at := make([]string, 3)
			for k := range at {
				at[k] = fmt.Sprintf("node%d", random.IntN(n))
			}
			w.run(fmt.Sprintf("service s%d local address=10.0.%d.%d\nendpoints s%d %s\n", i, i/256, i%256, i, strings.Join(at, " ")))
		case 1:
			w.run(fmt.Sprintf("service s%d address=10.%d.%d.%d\nendpoints s%d node0\n", i, 32+i%min(racks, 8), i/256, i%256, i))
		default:
			w.run(fmt.Sprintf("service s%d address=10.1.%d.%d\nendpoints s%d node0\n", i, i/256, i%256, i))
		}
	}
	return w
}

func (w *world) townNode(i, racks int) {
	w.run(fmt.Sprintf("node node%d zone=z%d rack=%d\nconnect node%d\n", i, i%3, i%racks, i))
}

// requireSessions checks what nodes are promised of each other: nobody watches more than
// maxSessions others, whoever watches is watched, with the same key, and all that share a
// list watch each other.
func requireSessions(t *testing.T, plans map[string]plan.NodePlan) (most int) {
	t.Helper()
	for name, set := range plans {
		most = max(most, len(set.Failover.Peers))
		for _, p := range set.Failover.Peers {
			i, ok := findPeer(plans[p.Node].Failover, name)
			require.True(t, ok, "%s watches %s, which does not watch it", name, p.Node)
			require.Equal(t, p.Key, plans[p.Node].Failover.Peers[i].Key)
			require.NotZero(t, p.Key)
		}
		require.True(t, slices.IsSortedFunc(set.Failover.Peers, func(x, y plan.Peer) int { return strings.Compare(x.Node, y.Node) }))
		for a := range set.Assignments.All() {
			for _, other := range a.Candidates {
				require.True(t, other == name || watchesPeer(set.Failover, other), "%s shares %v and does not watch %s", name, a.Candidates, other)
			}
		}
	}
	require.LessOrEqual(t, most, maxSessions)
	return most
}

// TestSessionsStayBounded as clusters grow, and while nodes come and go.
func TestSessionsStayBounded(t *testing.T) {
	for _, n := range []int{10, 65, 66, 100, 1000, 5000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(n), 1))
			w := town(t, random, n, min(400, 200_000/n))
			w.plan()
			most := requireSessions(t, w.plans)
			short := 0
			for address, list := range w.b.plan.lists {
				local := w.b.holdersOf(address)[0].Sharing.Local
				if !local {
					require.Len(t, list.Candidates, 3, "%s", address)
					require.NotEqual(t, w.b.nodes[list.Candidates[0]].Zone, w.b.nodes[list.Candidates[1]].Zone)
				}
				if w.b.plan.underReplicated[address] {
					short++
				}
			}
			t.Logf("%d nodes: at most %d sessions; %d of %d addresses with fewer backups", n, most, short, len(w.b.plan.lists))
			if n <= maxSessions+1 {
				require.Equal(t, n-1, most, "everybody watches everybody")
			}
			for i := range min(20, n/2, 10_000/n) {
				w.b.DeleteNode(fmt.Sprintf("node%d", random.IntN(n)))
				w.townNode(n+i, max(1, n/40))
				w.plan()
				requireSessions(t, w.plans)
			}
		})
	}
}

// A node that comes changes the sessions of its neighbours only.
func TestSessionsOfFewChange(t *testing.T) {
	w := town(t, rand.New(rand.NewPCG(1, 1)), 300, 0)
	w.plan()
	before := w.plans
	w.run("node more zone=z0\nconnect more\n")
	w.plan()
	changed := 0
	for name, set := range before {
		if set.Version != w.plans[name].Version {
			changed++
		}
	}
	require.Positive(t, changed)
	require.LessOrEqual(t, changed, ringSessions)
}

// Sessions do not depend on what happened before: another leader comes to the same.
func TestEveryLeaderComesToTheSameSessions(t *testing.T) {
	w := town(t, rand.New(rand.NewPCG(2, 1)), 100, 0)
	w.plan()
	before := w.plans
	w.newLeader()
	w.run("leader 2\n")
	w.plan()
	for name, set := range before {
		require.Equal(t, set.Failover, w.plans[name].Failover)
	}
}

// Where nodes have no session to spare an address has fewer backups, and the Service's
// condition says why; when one becomes free it gets more.
func TestTooManySessions(t *testing.T) {
	w := newWorld(t)
	w.run("pool all 10.0.0.0/16\nfailover 100ms 3\nleader 1\n")
	for i := range 200 {
		w.run(fmt.Sprintf("node node%03d\nconnect node%03d\n", i, i))
	}
	w.plan()
	var strangers []string // to node000
	for i := range 200 {
		if name := fmt.Sprintf("node%03d", i); name != "node000" && !w.b.sessions.areNeighbours("node000", name) {
			strangers = append(strangers, name)
		}
	}
	for i, name := range strangers {
		w.run(fmt.Sprintf("service s%03d local\nendpoints s%03d node000 %s\n", i, i, name))
	}
	w.plan()
	requireSessions(t, w.plans)
	require.Len(t, w.plans["node000"].Failover.Peers, maxSessions)
	require.Equal(t, len(strangers)-(maxSessions-ringSessions), w.b.UnderReplicated())
	last := fmt.Sprintf("s%03d", len(strangers)-1)
	for name := range w.plans {
		w.ack(name)
	}
	require.Contains(t, w.status(last), "Announced true Announced: answered by node199: 10.0.0.166\n")
	require.Len(t, w.b.plan.lists[addressesOf(w.b, "uid-"+last)[0]].Candidates, 1)

	for i := range len(strangers) - 1 {
		w.run(fmt.Sprintf("release s%03d\n", i))
	}
	w.plan()
	require.Zero(t, w.b.UnderReplicated())
	require.Len(t, w.b.plan.lists[addressesOf(w.b, "uid-"+last)[0]].Candidates, 2)
}

// Two names joined do not make another pair's key, and a key is of one cluster and secret.
func TestKeys(t *testing.T) {
	b := New()
	b.SetLeader("cluster", 1)
	b.SetSecret([]byte("secret"))
	key := b.pairKey("node1", "node2")
	require.Equal(t, key, b.pairKey("node2", "node1"))
	require.NotEqual(t, key, b.pairKey("node1", "node3"))
	require.NotEqual(t, b.pairKey("a", "bc"), b.pairKey("ab", "c"))
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", key, key, key), fmt.Sprint(key[0], " "))
	b.SetLeader("other", 1)
	require.NotEqual(t, key, b.pairKey("node1", "node2"))
	b.SetLeader("cluster", 2)
	require.Equal(t, key, b.pairKey("node1", "node2"), "the same from leader to leader")
	b.SetSecret([]byte("another"))
	require.NotEqual(t, key, b.pairKey("node1", "node2"))
}

// A new secret reaches every node; without one nobody watches anybody.
func TestSecretReachesEveryNode(t *testing.T) {
	w := town(t, rand.New(rand.NewPCG(3, 1)), 10, 0)
	w.plan()
	before := w.plans
	w.b.SetSecret([]byte("another"))
	w.plan()
	for name, set := range w.plans {
		require.NotEqual(t, before[name].Version, set.Version)
		require.NotEqual(t, before[name].Failover.Peers[0].Key, set.Failover.Peers[0].Key)
	}
	w.b.SetSecret(nil)
	w.plan()
	for _, set := range w.plans {
		require.Equal(t, plan.Failover{}, set.Failover)
	}
}

// TestADeadNodeChangesNoCondition: what a node answered for others take over, and many
// addresses have fewer backups then. No condition says another thing than before: with a
// thousand addresses that would be a thousand writes that every kube-proxy sees.
func TestADeadNodeChangesNoCondition(t *testing.T) {
	w, random := newWorld(t), rand.New(rand.NewPCG(1, 9))
	w.b.sessions.limit = limits{most: 6, ring: 2}
	w.run("pool default 10.0.0.0/20\nfailover 100ms 3\nleader 1\n")
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprintf("node%02d", i))
		w.run(fmt.Sprintf("node node%02d\nconnect node%02d\n", i, i))
	}
	const addresses = 60
	for i := range addresses {
		three := random.Perm(len(names))[:3]
		w.run(fmt.Sprintf("service s%d local\nendpoints s%d %s %s %s\n", i, i, names[three[0]], names[three[1]], names[three[2]]))
	}
	w.run("plan\nack " + strings.Join(names, " ") + "\n")
	conditions := func() map[string]Verdict {
		out := map[string]Verdict{}
		for i := range addresses {
			s, _ := w.b.Status(fmt.Sprint("uid-s", i))
			out[fmt.Sprint("s", i)] = Verdict{OK: s.Announced.OK, Reason: s.Announced.Reason} // the message names the node
		}
		return out
	}
	before, short := conditions(), maps.Clone(w.b.plan.underReplicated)
	owned := w.b.plan.owned["node05"]
	require.NotZero(t, owned)
	taken := map[string][]string{}
	for address, list := range w.b.plan.lists {
		if list.Candidates[0] == "node05" && len(list.Candidates) > 1 {
			taken[list.Candidates[1]] = append(taken[list.Candidates[1]], address.String())
		}
	}
	require.NotEmpty(t, taken)
	for name, more := range taken {
		for address, list := range w.b.plan.lists {
			if list.Candidates[0] == name {
				more = append(more, address.String())
			}
		}
		slices.SortFunc(more, func(x, y string) int { return netip.MustParseAddr(x).Compare(netip.MustParseAddr(y)) })
		w.claim(name, more)
	}
	for _, name := range names {
		if name != "node05" {
			w.run("down " + name + " node05\n")
		}
	}
	w.run("disconnect node05\n")
	require.Equal(t, before, conditions(), "before the plan follows")
	w.plan()
	require.Equal(t, before, conditions(), "once the plan has followed")
	w.run("delete-node node05\nplan\n")
	for _, name := range names {
		if name != "node05" {
			w.ack(name)
		}
	}
	w.plan()
	require.Equal(t, before, conditions(), "in the end")
	require.False(t, maps.Equal(short, w.b.plan.underReplicated), "for others there are few backups now")
}
