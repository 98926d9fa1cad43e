package control

import (
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// thousandPlans returns a plan for each of as many nodes.
func thousandPlans() plans {
	out := plans{}
	for i := range 1000 {
		out[fmt.Sprintf("node%d", i)] = plan.NodePlan{Cluster: "c", Version: plan.Version{Term: 1, Revision: 1}}
	}
	return out
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestOneChangeWakesOne: of a thousand nodes only the one whose plan changed is woken.
func TestOneChangeWakesOne(t *testing.T) {
	p, now := newPlanStore(), thousandPlans()
	woken := func(next plans) (names []string) {
		waiting := map[string]<-chan struct{}{}
		for node := range thousandPlans() {
			_, waiting[node], _ = p.getPlan(node)
		}
		_, _, renewed := p.getPlan("node0")
		p.putPlans(next)
		require.True(t, closed(renewed))
		for node, changed := range waiting {
			if closed(changed) {
				names = append(names, node)
			}
			set, _, renewed := p.getPlan(node)
			require.Equal(t, next[node], set)
			require.False(t, closed(renewed))
		}
		return names
	}
	require.Len(t, woken(now), 1000)
	require.Empty(t, woken(maps.Clone(now)), "the same again")
	next := maps.Clone(now)
	next["node7"] = set(1, 2, "192.0.2.1")
	require.Equal(t, []string{"node7"}, woken(next))
	delete(next, "node8")
	require.Empty(t, woken(maps.Clone(next)), "no plan is nothing to say")
	require.Empty(t, woken(nil), "a standby says nothing")
	require.Len(t, woken(next), 999, "who leads again says everything")
}

// BenchmarkPublish shows what it costs to change the plan of one node of a thousand that
// have streams, until that one knows.
func BenchmarkPublish(b *testing.B) {
	p, now := newPlanStore(), thousandPlans()
	p.putPlans(now)
	told := make(chan struct{})
	for node := range now {
		last, changed, _ := p.getPlan(node)
		go func() { // ends with the process
			for {
				<-changed
				var set plan.NodePlan
				if set, changed, _ = p.getPlan(node); set.Version != last.Version {
					last = set
					told <- struct{}{}
				}
			}
		}()
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		next := maps.Clone(now) // as the planner does
		next["node7"] = plan.NodePlan{Cluster: "c", Version: plan.Version{Term: 1, Revision: uint64(i + 2)}}
		p.putPlans(next)
		<-told
		now = next
	}
}
