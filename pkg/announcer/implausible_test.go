package announcer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestFault_K4_3_ImplausibleTermsAreRefused: 15 s of a rogue leader with a stolen key and the
// highest term made all nodes refuse the real one.
func TestFault_K4_3_ImplausibleTermsAreRefused(t *testing.T) {
	at := func(term uint64) plan.NodePlan {
		return plan.NodePlan{Cluster: "c", Version: plan.Version{Term: term, Revision: 1}}
	}
	c := newCore("a", 1)
	_, err := c.acceptPlanAt(0, at(^uint64(0)))
	require.Equal(t, refusedImplausible, refusalCause(err), "not as the first plan either")
	_, err = c.acceptPlanAt(0, at(5))
	require.NoError(t, err)
	for _, far := range []uint64{5 + plan.MaxLeap + 1, plan.MaxTerm, plan.MaxTerm + 1, ^uint64(0)} {
		_, err = c.acceptPlanAt(time.Second, at(far))
		require.Equal(t, refusedImplausible, refusalCause(err), far)
		require.ErrorContains(t, err, "key of baremetal-ccm")
	}
	require.Equal(t, ^uint64(0), c.implausible.Term, "the real leader is told")

	// In many small leaps it comes no further.
	boot := 2 * time.Second
	for range 15_000 { // a plan each millisecond
		_, err = c.acceptPlanAt(boot, at(c.nodePlan.Version.Term+plan.MaxLeap/2))
		boot += time.Millisecond
	}
	require.Error(t, err)
	require.LessOrEqual(t, c.nodePlan.Version.Term, 5+plan.MaxLeap)
	_, err = c.acceptPlanAt(boot, at(c.nodePlan.Version.Term+1))
	require.Error(t, err)
	_, err = c.acceptPlanAt(boot+time.Minute, at(c.nodePlan.Version.Term+1))
	require.NoError(t, err, "the real leader, once it has come that far")
}

// TestFault_K4_3_AnotherAuthorityIsTheWayBack: what a revoked authority vouched for fences
// nothing, after a restart either; a rotation of authorities changes nothing.
func TestFault_K4_3_AnotherAuthorityIsTheWayBack(t *testing.T) {
	of := func(cluster string, term uint64, authority string, trusted ...string) plan.NodePlan {
		return plan.NodePlan{
			Cluster: cluster, Version: plan.Version{Term: term, Revision: 1},
			Voucher: plan.Voucher{Authority: authority, Trusted: trusted},
		}
	}
	for _, cluster := range []string{"c", "made-up"} {
		for _, restarted := range []bool{false, true} {
			c := newCore("a", 1)
			rogue := of(cluster, plan.MaxTerm, "stolen", "stolen")
			if restarted {
				rogue.Voucher.Trusted = nil // the disk does not have them
				c.restorePlan(0, rogue)
			} else {
				_, err := c.acceptPlanAt(0, rogue)
				require.NoError(t, err)
			}
			if cluster == "c" {
				_, err := c.acceptPlanAt(0, of("c", 6, "stolen", "stolen"))
				require.Equal(t, refusedStale, refusalCause(err))
				_, err = c.acceptPlanAt(0, of("c", 6, "next", "next", "stolen"))
				require.Equal(t, refusedStale, refusalCause(err), "both are trusted while one is replaced")
			}
			revoked, err := c.acceptPlanAt(0, of("c", 6, "next", "next"))
			require.NoError(t, err)
			require.True(t, revoked, "its versions are forgotten everywhere")
			_, err = c.acceptPlanAt(0, of("c", 5, "next", "next"))
			require.Equal(t, refusedStale, refusalCause(err), "from now on the usual rule holds")
		}
	}
	// A rotation in the usual course overturns nothing, though no new plan came while both were
	// trusted.
	c := newCore("a", 1)
	_, err := c.acceptPlanAt(0, of("c", 6, "old", "old"))
	require.NoError(t, err)
	revoked, err := c.acceptPlanAt(0, of("c", 6, "next", "next"))
	require.Empty(t, refusalCause(err), "the same plan again")
	require.False(t, revoked)
	require.Equal(t, "next", c.nodePlan.Voucher.Authority)
	_, err = c.acceptPlanAt(0, of("c", 5, "next", "next"))
	require.Equal(t, refusedStale, refusalCause(err))
	revoked, err = c.acceptPlanAt(0, of("c", 7, "third", "third"))
	require.NoError(t, err)
	require.False(t, revoked, "newer all the same")

	require.NoError(t, plan.Accept(of("c", 3, ""), of("c", 4, "x", "x")))
	require.Error(t, plan.Accept(of("c", 3, ""), of("c", 2, "x", "x")), "a plan of an unknown voucher fences")
}
