package announcer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// restored returns a core that kept a plan from an earlier life, at time.Hour.
func restored(t *testing.T, kept announcement.Set) *core {
	t.Helper()
	c := newCore("a", 1)
	c.restore(time.Hour, kept)
	c.see(time.Hour, links(ifi(2, "eth0", "192.0.2.10/24")))
	return c
}

// TestAKeptPlanWaitsForALeader, and is carried out if none speaks. It fences from the start.
func TestAKeptPlanWaitsForALeader(t *testing.T) {
	c := restored(t, plan(5, "192.0.2.200=a"))
	report := turn(c, began, nil)
	require.Zero(t, report.Claims.Len())
	require.Zero(t, report.Plan, "nothing is carried out")
	require.Equal(t, announcement.Stamp{Term: 1, Revision: 5}, report.Highest)
	require.Equal(t, "c", report.Cluster)

	require.False(t, c.resume(time.Hour+leaderPatience-1))
	require.True(t, c.resume(time.Hour+leaderPatience))
	require.False(t, c.resume(time.Hour+leaderPatience), "once")
	turn(c, began, nil)
	require.Equal(t, []netip.Addr{ip("192.0.2.200")}, c.sight.Ask(), "others than the list's candidates may answer")
	require.Zero(t, c.claimed.Len())
	c.sight.Probed(time.Hour, []netip.Addr{ip("192.0.2.200")}, nil)
	report = turn(c, began, nil)
	require.Equal(t, 1, report.Claims.Len())
	require.Equal(t, announcement.Stamp{Term: 1, Revision: 5}, report.Plan)
}

// TestWhatSupersedesAKeptPlan: the same plan again from a leader, a newer one, and that of
// another cluster; not an older one, before and after it is carried out.
func TestWhatSupersedesAKeptPlan(t *testing.T) {
	foreign := plan(1, "192.0.2.200=a")
	foreign.Cluster = "d"
	higher := plan(1, "192.0.2.200=a")
	higher.Stamp.Term = 2
	lower := plan(9, "192.0.2.200=a")
	lower.Stamp.Term = 0
	for name, test := range map[string]struct {
		offered announcement.Set
		err     string
	}{
		"the same":        {plan(5, "192.0.2.200=a"), ""},
		"newer":           {plan(6, "192.0.2.200=a"), ""},
		"a higher term":   {higher, ""},
		"another cluster": {foreign, ""},
		"older":           {plan(4, "192.0.2.200=a"), "plan 1.4 refused: plan 1.5 was accepted before"},
		"a lower term":    {lower, "plan 0.9 refused: plan 1.5 was accepted before"},
		"incomplete":      {announcement.Set{}, announcement.ErrIncomplete.Error()},
	} {
		for when, resumed := range map[string]bool{"waiting": false, "carried out": true} {
			t.Run(name+", "+when, func(t *testing.T) {
				c := restored(t, plan(5, "192.0.2.200=a"))
				if resumed {
					require.True(t, c.resume(2*time.Hour))
				}
				err := c.offer(test.offered)
				if test.err != "" {
					require.EqualError(t, err, test.err)
					require.True(t, c.kept.unconfirmed)
					return
				}
				require.NoError(t, err)
				require.Equal(t, test.offered, c.set)
				require.Zero(t, c.kept)
				require.Equal(t, 1, turn(c, began, nil).Claims.Len(), "at once")
				require.Error(t, c.offer(test.offered), "from now on the usual rule holds")
			})
		}
	}
}

// TestNothingKept: without a plan from an earlier life there is nothing to wait for.
func TestNothingKept(t *testing.T) {
	c := restored(t, announcement.Set{})
	require.Zero(t, c.kept)
	require.NoError(t, c.offer(plan(1, "192.0.2.200=a")))
	require.Equal(t, 1, turn(c, began, nil).Claims.Len())
}
