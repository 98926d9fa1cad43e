package loadbalancer

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	balancedNodes     = 10
	balancedAddresses = 1000
	leaver            = "node7"
)

// owners returns who answers for each address under the plans.
func (w *world) owners() map[netip.Addr]string {
	owners := map[netip.Addr]string{}
	for _, set := range w.plans {
		for a := range set.Assignments.All() {
			owners[a.Address] = a.Candidates[0]
		}
	}
	return owners
}

// unevenness is the largest share of a node beside the mean of nodes.
func unevenness(owners map[netip.Addr]string, nodes int) float64 {
	shares, largest := map[string]int{}, 0
	for _, owner := range owners {
		shares[owner]++
		largest = max(largest, shares[owner])
	}
	return float64(largest) * float64(nodes) / float64(len(owners))
}

// balance gives many addresses to many nodes, takes one node away, and returns who
// answered before and after.
func balance(t testing.TB) (before, after map[netip.Addr]string) {
	w := newWorld(t)
	var names []string
	for i := range balancedNodes {
		names = append(names, fmt.Sprintf("node%d", i+1))
	}
	w.run("pool default 10.0.0.0/20\nnode " + strings.Join(names, "\nnode ") + "\nconnect " + strings.Join(names, " ") + "\nleader 1\n")
	for i := range balancedAddresses {
		w.run(fmt.Sprintf("service s%d\nendpoints s%d node1\n", i, i))
	}
	w.run("plan\nack " + strings.Join(names, " ") + "\n")
	before = w.owners()
	w.run("disconnect " + leaver + "\ndelete-node " + leaver + "\n")
	w.plans = maps.Clone(w.plans)
	delete(w.plans, leaver)
	w.run("plan\n")
	return before, w.owners()
}

// needless counts the addresses that moved although their node stayed.
func needless(before, after map[netip.Addr]string) (moved int) {
	for address, owner := range before {
		if owner != leaver && after[address] != owner {
			moved++
		}
	}
	return moved
}

// TestBalance: the largest share is at most a tenth above the mean, and who leaves takes
// only its own addresses along.
func TestBalance(t *testing.T) {
	before, after := balance(t)
	require.Len(t, before, balancedAddresses)
	require.Len(t, after, balancedAddresses)
	require.LessOrEqual(t, unevenness(before, balancedNodes), 1.1)
	require.LessOrEqual(t, unevenness(after, balancedNodes-1), 1.1)
	require.Zero(t, needless(before, after))
	for address, owner := range after {
		require.NotEqual(t, leaver, owner, address)
	}
}

// BenchmarkBalance reports the same as numbers, for docs/performance.md.
func BenchmarkBalance(b *testing.B) {
	for b.Loop() {
		before, after := balance(b)
		b.ReportMetric(unevenness(before, balancedNodes), "largest_ratio")
		b.ReportMetric(unevenness(after, balancedNodes-1), "largest_after_ratio")
		b.ReportMetric(float64(needless(before, after)), "needless_moves")
	}
}
