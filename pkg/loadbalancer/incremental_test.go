package loadbalancer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestIncrementalAgainstWhole: deciding only what may have changed comes to the same plans
// and verdicts, version for version, as deciding everything each time. Nodes may watch few
// others, so that sessions are short.
func TestIncrementalAgainstWhole(t *testing.T) {
	for seed := range uint64(80) {
		some, all := newWorld(t), newWorld(t)
		both := []*world{some, all}
		for _, w := range both {
			w.b.sessions.limit = limits{most: 2 + int(seed%5), ring: 2}
		}
		for op := range 250 {
			what := ""
			for _, w := range both {
				// Each gets the same random numbers, and so the same operation.
				what = w.randomOperation(rand.New(rand.NewPCG(seed, uint64(op))))
			}
			if op%3 != 0 {
				continue
			}
			all.b.plan.markAllDirty()
			some.plans, all.plans = some.b.Plan(), all.b.Plan()
			at := fmt.Sprintf("seed %d, operation %d: %s", seed, op, what)
			require.Equal(t, all.String(), some.String(), at)
			require.Equal(t, all.plans, some.plans, at)
			require.Equal(t, some.b.plan.sets, some.plans, at)
			for uid := range all.b.services {
				want, _ := all.b.Status(uid)
				got, _ := some.b.Status(uid)
				require.Equal(t, want, got, at)
			}
			requireBounded(t, some.plans, some.b.sessions.limit.most, at)
		}
	}
}

// TestPlanCopiesNothingForNothing: where no plan changed, the plans are those that were
// returned before, however many nodes there are. A node that comes or goes is a change.
func TestPlanCopiesNothingForNothing(t *testing.T) {
	w := newWorld(t)
	w.run("pool default 10.0.0.0/24\nnode node1\nnode node2\nconnect node1 node2\nleader 1\nservice web\nendpoints web node1\nplan\nack node1 node2\n")
	w.plans = w.b.Plan()
	require.Equal(t, reflect.ValueOf(w.plans).Pointer(), reflect.ValueOf(w.b.Plan()).Pointer())
	before := maps.Clone(w.plans)
	w.run("node node3\n")
	require.Len(t, w.b.Plan(), 3)
	require.Equal(t, before, w.plans, "what was returned does not change")
	w.run("delete-node node3\n")
	require.Equal(t, before, w.b.Plan())
}

// String prints the lists, and who hands an address over.
func (w *world) String() string {
	var out strings.Builder
	p := &w.b.plan
	for _, address := range slices.SortedFunc(maps.Keys(p.lists), netip.Addr.Compare) {
		fmt.Fprintln(&out, address, stamp(p.lists[address].Version), p.lists[address].Candidates, p.handingOver[address])
	}
	return out.String() + fmt.Sprintln(p.withdrawn, p.underReplicated)
}

// requireBounded checks that no node watches more than most others, and all that share a
// list with it.
func requireBounded(t *testing.T, plans map[string]plan.NodePlan, most int, at string) {
	for name, set := range plans {
		require.LessOrEqual(t, len(set.Failover.Peers), most, at)
		for a := range set.Assignments.All() {
			for _, other := range a.Candidates {
				known := plans[other].Cluster != ""
				require.True(t, set.Failover.TransmitInterval == 0 || other == name || !known || watchesPeer(set.Failover, other), "%s: %s, %v", at, name, a.Candidates)
			}
		}
	}
}

// randomOperation does one of the things that happen to a Balancer.
func (w *world) randomOperation(random *rand.Rand) string {
	name := fmt.Sprint("node", random.IntN(9))
	key := fmt.Sprint("s", random.IntN(12))
	var command string
	switch random.IntN(14) {
	case 0, 1:
		command = fmt.Sprintf("node %s zone=%s rack=%d", name, []string{"", "a", "b", "c"}[random.IntN(4)], random.IntN(2))
	case 2:
		command = "node " + name + []string{" excluded", " deleting", " network-unavailable"}[random.IntN(3)]
	case 3:
		command = "delete-node " + name
	case 4:
		command = fmt.Sprintf("pool p 10.0.0.0/28 %s", []string{"", "nodes=rack=0", "interface=eth1"}[random.IntN(3)])
	case 5:
		command = fmt.Sprintf("pool q 10.0.1.0/29 nodes=rack=%d", random.IntN(2))
	case 6:
		command = fmt.Sprintf("service %s %s", key, []string{"", "local"}[random.IntN(2)])
	case 7:
		command = "release " + key
	case 8, 9:
		command = fmt.Sprintf("endpoints %s node%d node%d", key, random.IntN(9), random.IntN(9))
		if random.IntN(4) == 0 {
			command = "endpoints " + key
		}
	case 10:
		command = "disconnect " + name
	case 11:
		command = []string{"failover 100ms 3", "failover 50ms 3"}[random.IntN(2)]
	default:
		return w.randomReport(random, name)
	}
	w.now = w.now.Add(time.Second)
	w.run(command)
	return command
}

// randomReport has a node say something, which need not be what it was told to do.
func (w *world) randomReport(random *rand.Rand, name string) string {
	set := w.plans[name]
	report := plan.Report{Plan: set.Version, Interfaces: []plan.Interface{{Name: "eth0"}}}
	if random.IntN(3) == 0 {
		report.Interfaces = append(report.Interfaces, plan.Interface{Name: "eth1"})
	}
	if random.IntN(6) == 0 {
		report.Interfaces = nil
	}
	if random.IntN(4) == 0 {
		report.Plan = plan.Version{}
	}
	for a := range set.Assignments.All() {
		if a.Candidates[0] == name && random.IntN(4) > 0 || random.IntN(4) == 0 {
			report.Claims = report.Claims.With(plan.Claim{Address: a.Address, Version: a.Version})
		}
		for _, other := range a.Candidates {
			if other != name && random.IntN(2) == 0 && !slices.Contains(report.Down, other) {
				report.Down = append(report.Down, other)
			}
		}
	}
	slices.Sort(report.Down)
	w.b.Observe(name, report)
	return fmt.Sprintf("report of %s: %+v", name, report)
}
