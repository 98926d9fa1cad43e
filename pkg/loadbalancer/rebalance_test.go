package loadbalancer

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// evened is a world in which addresses move for the sake of balance, with a naive model of
// what may be.
type evened struct {
	*world
	random *rand.Rand
	nodes  []string
	// limit is the number of moves a minute, and moves are when they were.
	limit int
	moves []time.Time
}

func newEvened(t *testing.T, random *rand.Rand, nodes, addresses int) *evened {
	e := &evened{world: newWorld(t), random: random, limit: 1 + random.IntN(120)}
	for i := range nodes {
		e.nodes = append(e.nodes, fmt.Sprintf("node%d", i+1))
	}
	e.run("pool default 10.0.0.0/20\nnode " + strings.Join(e.nodes, "\nnode ") + "\nfailover 100ms 3\nleader 1\n")
	e.run(fmt.Sprintf("rebalance %d\nconnect %s\n", e.limit, strings.Join(e.nodes[:max(1, nodes-1-random.IntN(nodes))], " ")))
	for i := range addresses {
		e.run(fmt.Sprintf("service s%d\nendpoints s%d node1\n", i, i))
	}
	e.agree()
	return e
}

// agree has all nodes that are connected carry out their plans.
func (e *evened) agree() {
	for range 3 {
		e.run("plan\n")
		for _, name := range e.nodes {
			if e.b.isConnected(name) {
				e.ack(name)
			}
		}
	}
}

// step lets some time pass and holds what happens against the model.
func (e *evened) step(least time.Duration) (moved bool) {
	before := maps.Clone(e.b.plan.owned)
	owners := e.owners()
	mayMove := !e.even()
	e.now = e.now.Add(least + time.Duration(e.random.Int64N(int64(least)+1)))
	again := e.b.Rebalance(e.now)
	require.LessOrEqual(e.t, again, time.Minute)
	e.agree()
	var changed []netip.Addr
	for address, owner := range e.owners() {
		if owner == owners[address] {
			continue
		}
		changed = append(changed, address)
		require.Greater(e.t, before[owners[address]], before[owner]+1, "%s moved from %s to %s, which is no better", address, owners[address], owner)
	}
	require.LessOrEqual(e.t, len(changed), 1, "one at a time")
	if len(changed) == 0 {
		return false
	}
	require.True(e.t, mayMove, "%v moved although the load was even", changed)
	e.moves = append(e.moves, e.now)
	lastMinute := slices.DeleteFunc(slices.Clone(e.moves), func(m time.Time) bool { return !m.After(e.now.Add(-time.Minute)) })
	require.LessOrEqual(e.t, len(lastMinute), e.limit, "moves within a minute")
	return true
}

// shares returns the largest and the smallest share of a connected node, and the mean.
func (e *evened) shares() (largest, smallest int, mean float64) {
	total, nodes := 0, 0
	smallest = math.MaxInt
	for _, name := range e.nodes {
		if e.b.isConnected(name) {
			n := e.b.plan.owned[name]
			largest, smallest = max(largest, n), min(smallest, n)
			total, nodes = total+n, nodes+1
		}
	}
	return largest, smallest, float64(total) / float64(nodes)
}

// even is the state in which nothing has to move.
func (e *evened) even() bool {
	largest, smallest, _ := e.shares()
	return largest <= smallest+1
}

// TestRebalance: whoever returns, the load becomes even by moves that each make it more so,
// never more than allowed in any minute, also over a change of leader, and then nothing moves.
func TestRebalance(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 8))
		nodes, addresses := 2+random.IntN(9), 1+random.IntN(60)
		e := newEvened(t, random, nodes, addresses)
		e.run("connect " + strings.Join(e.nodes, " ") + "\n")
		for _, name := range e.nodes {
			e.ack(name) // who was connected before goes on
		}
		e.agree()
		pause := time.Minute / time.Duration(e.limit)
		idle := 0
		for steps := 0; idle < 3; steps++ {
			require.Less(t, steps, 100*addresses+400, "seed %d: it does not come to an end", seed)
			if random.IntN(10) == 0 {
				e.newLeader()
				e.run(fmt.Sprintf("leader %d\n", steps+2))
				e.agree()
			}
			least := pause/8 + 1
			if idle > 0 {
				least = pause
			}
			if idle++; e.step(least) {
				idle = 0
			}
			if largest, smallest, mean := e.shares(); !e.even() && (float64(largest) > max(1.1*mean, math.Ceil(mean)) || float64(smallest) < mean/2) {
				idle = 0 // it is uneven: a leader that has just begun waits for its turn
			}
		}
		largest, smallest, mean := e.shares()
		require.True(t, float64(largest) <= max(1.1*mean, math.Ceil(mean)), "seed %d: %d of %g", seed, largest, mean)
		require.True(t, e.even() || float64(smallest) >= mean/2, "seed %d: %d of %g", seed, smallest, mean)
	}
}

// TestRebalanceOfMany: of a thousand addresses each of ten nodes gets its share when one
// returns, at the pace that is given, and each comes from one that had too many.
func TestRebalanceOfMany(t *testing.T) {
	w := newWorld(t)
	var names []string
	for i := range balancedNodes {
		names = append(names, fmt.Sprintf("node%d", i+1))
	}
	all := strings.Join(names, " ")
	w.run("pool default 10.0.0.0/20\nnode " + strings.Join(names, "\nnode ") + "\nfailover 100ms 3\nrebalance 600\nleader 1\nconnect " + strings.Join(names[1:], " ") + "\n")
	for i := range balancedAddresses {
		w.run(fmt.Sprintf("service s%d\nendpoints s%d node1\n", i, i))
	}
	w.run("plan\nack " + strings.Join(names[1:], " ") + "\nconnect node1\nplan\nack " + all + "\n")
	require.Zero(t, w.b.plan.owned["node1"])
	before, moves := w.owners(), 0
	for pause := w.b.Rebalance(w.now); pause == 100*time.Millisecond; pause = w.b.Rebalance(w.now) {
		w.now = w.now.Add(pause)
		w.b.Rebalance(w.now)
		w.plan()
		for _, name := range names {
			if w.b.isBehind(name) {
				w.ack(name)
			}
		}
		if moves++; moves > 2*balancedAddresses/balancedNodes {
			break
		}
	}
	after := w.owners()
	require.Equal(t, balancedAddresses/balancedNodes, w.b.plan.owned["node1"])
	require.LessOrEqual(t, unevenness(after, balancedNodes), 1.1)
	for address, owner := range after {
		require.True(t, owner == before[address] || owner == "node1", address)
	}
}
