package loadbalancer

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// 1000 addresses on 10 nodes: the largest share is at most 1.1 times the mean, and when a
// node leaves only its own addresses move, and the others share them evenly.
func TestSpread(t *testing.T) {
	w := newWorld(t)
	w.run("pool default 10.0.0.0/20\nsight 100ms 3\nleader 1\n")
	for i := range 10 {
		w.run(fmt.Sprintf("node node%d zone=z%d\nconnect node%d\n", i, i%3, i))
	}
	for i := range 1000 {
		w.run(fmt.Sprintf("service s%d\nendpoints s%d node0\n", i, i))
	}
	w.plan()
	require.LessOrEqual(t, w.largestShare(), 1.1)

	before := map[netip.Addr]string{}
	for address := range w.b.plan.lists {
		before[address] = w.b.plan.owner(address)
	}
	w.run("delete-node node4\n")
	w.plan()
	for address, owner := range before {
		if owner != "node4" {
			require.Equal(t, owner, w.b.plan.owner(address))
		}
	}
	require.LessOrEqual(t, w.largestShare(), 1.1)
}

// largestShare is the largest number of addresses of a node, by the mean.
func (w *world) largestShare() float64 {
	largest := 0
	for name := range w.b.nodes {
		largest = max(largest, w.b.plan.owned[name])
	}
	return float64(largest) * float64(len(w.b.nodes)) / float64(len(w.b.plan.lists))
}
