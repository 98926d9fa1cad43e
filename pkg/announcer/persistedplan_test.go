package announcer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// restored returns a core that kept a plan from an earlier life, at time.Hour.
func restored(t *testing.T, kept plan.NodePlan) *core {
	t.Helper()
	c := newCore("a", 1)
	c.restorePlan(time.Hour, kept)
	c.setLinks(time.Hour, links(ifi(2, "eth0", "192.0.2.10/24")))
	return c
}

// TestAPersistedPlanWaitsForALeader, and is carried out if none speaks. It fences from the start.
func TestAPersistedPlanWaitsForALeader(t *testing.T) {
	c := restored(t, nodePlan(5, "192.0.2.200=a"))
	report := turn(c, began, nil)
	require.Zero(t, report.Claims.Len())
	require.Zero(t, report.Plan, "nothing is carried out")
	require.Equal(t, plan.Version{Term: 1, Revision: 5}, report.Highest)
	require.Equal(t, "c", report.Cluster)

	require.False(t, c.resumePlan(time.Hour+leaderWaitLimit-1))
	require.True(t, c.resumePlan(time.Hour+leaderWaitLimit))
	require.False(t, c.resumePlan(time.Hour+leaderWaitLimit), "once")
	turn(c, began, nil)
	require.Equal(t, []netip.Addr{ip("192.0.2.200")}, c.failover.TakeProbes(), "others than the list's candidates may answer")
	require.Zero(t, c.claimed.Len())
	c.failover.SetProbeResults(time.Hour, []netip.Addr{ip("192.0.2.200")}, nil)
	report = turn(c, began, nil)
	require.Equal(t, 1, report.Claims.Len())
	require.Equal(t, plan.Version{Term: 1, Revision: 5}, report.Plan)
}

// TestWhatSupersedesAPersistedPlan: the same plan again from a leader, a newer one, and that of
// another cluster; not an older one, before and after it is carried out.
func TestWhatSupersedesAPersistedPlan(t *testing.T) {
	foreign := nodePlan(1, "192.0.2.200=a")
	foreign.Cluster = "d"
	higher := nodePlan(1, "192.0.2.200=a")
	higher.Version.Term = 2
	lower := nodePlan(9, "192.0.2.200=a")
	lower.Version.Term = 0
	for name, test := range map[string]struct {
		offered plan.NodePlan
		err     string
	}{
		"the same":        {nodePlan(5, "192.0.2.200=a"), ""},
		"newer":           {nodePlan(6, "192.0.2.200=a"), ""},
		"a higher term":   {higher, ""},
		"another cluster": {foreign, ""},
		"older":           {nodePlan(4, "192.0.2.200=a"), "plan 1.4 refused: plan 1.5 was accepted before"},
		"a lower term":    {lower, "plan 0.9 refused: plan 1.5 was accepted before"},
		"incomplete":      {plan.NodePlan{}, plan.ErrIncomplete.Error()},
	} {
		for when, resumed := range map[string]bool{"waiting": false, "carried out": true} {
			t.Run(name+", "+when, func(t *testing.T) {
				c := restored(t, nodePlan(5, "192.0.2.200=a"))
				if resumed {
					require.True(t, c.resumePlan(2*time.Hour))
				}
				err := c.acceptPlan(test.offered)
				if test.err != "" {
					require.EqualError(t, err, test.err)
					require.True(t, c.persisted.unconfirmed)
					return
				}
				require.NoError(t, err)
				require.Equal(t, test.offered, c.nodePlan)
				require.Zero(t, c.persisted)
				require.Equal(t, 1, turn(c, began, nil).Claims.Len(), "at once")
				require.Error(t, c.acceptPlan(test.offered), "from now on the usual rule holds")
			})
		}
	}
}

// TestNothingPersisted: without a plan from an earlier life there is nothing to wait for.
func TestNothingPersisted(t *testing.T) {
	c := restored(t, plan.NodePlan{})
	require.Zero(t, c.persisted)
	require.NoError(t, c.acceptPlan(nodePlan(1, "192.0.2.200=a")))
	require.Equal(t, 1, turn(c, began, nil).Claims.Len())
}
