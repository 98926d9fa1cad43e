package cloud

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestFault_K1_5_OneRaiseForANodeAndMinute: 5 reports a second, each of a higher term, were
// 100 Lease writes in 1.9 s.
func TestFault_K1_5_OneRaiseForANodeAndMinute(t *testing.T) {
	var watched terms
	began := time.Unix(1000, 0)
	term, raises := uint64(1), 0
	for i := range 5 * 600 { // ten minutes
		now := began.Add(time.Duration(i) * time.Second / 5)
		watched.takeTerm("liar", term+1)
		least, again := watched.nextTerm(term, now)
		require.True(t, least == 0 == (again > 0), "who is put off is asked again")
		require.LessOrEqual(t, again, raiseEvery)
		if least > 0 {
			require.Equal(t, term+1, least)
			term = least
			raises++
		}
	}
	require.Equal(t, 10, raises)

	// Many honest nodes that heard of another leader are one raise, however late some of them are.
	watched = terms{}
	for i := range 1000 {
		watched.takeTerm(fmt.Sprint("node", i), term+7)
	}
	least, again := watched.nextTerm(term, began)
	require.Equal(t, term+7, least)
	require.Zero(t, again)
	watched.takeTerm("late", term+7)
	least, again = watched.nextTerm(term+7, began)
	require.Zero(t, least)
	require.Zero(t, again)

	// A liar does not put off what an honest node heard.
	watched = terms{}
	watched.takeTerm("liar", term+1)
	least, _ = watched.nextTerm(term, began)
	require.Equal(t, term+1, least)
	watched.takeTerm("liar", term+2)
	watched.takeTerm("honest", term+5)
	least, _ = watched.nextTerm(term+1, began.Add(time.Second))
	require.Equal(t, term+5, least)
	watched.forgetNode("liar")
	require.Len(t, watched.nodes, 1)
}

// TestFault_K4_3_TermsGrowByPlausibleSteps: the leader's counter never wraps, no report makes
// it leap to where honest announcers would refuse it, and it still comes above what a rogue
// leader made announcers take.
func TestFault_K4_3_TermsGrowByPlausibleSteps(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, far := range []uint64{plan.MaxTerm + 1, 1 << 63, ^uint64(0)} {
		var watched terms
		watched.takeTerm("node", far)
		least, again := watched.nextTerm(5, now)
		require.Zero(t, least, "nothing is raised for it")
		require.Zero(t, again)
		require.False(t, isPlausible(far, 5))
		require.True(t, watched.shouldReport("node", now))
		require.False(t, watched.shouldReport("node", now.Add(raiseEvery-time.Second)), "one Event a minute")
		require.True(t, watched.shouldReport("node", now.Add(raiseEvery)))
	}

	// A rogue leader made a node take as much as it takes in a minute.
	var watched terms
	term := uint64(5)
	rogue := term + plan.MaxLeap
	steps := 0
	for ; term < rogue+1; now = now.Add(raiseEvery) {
		watched.takeTerm("victim", rogue+1)
		least, _ := watched.nextTerm(term, now)
		require.Greater(t, least, term)
		others := plan.NodePlan{Cluster: "c", Version: plan.Version{Term: term, Revision: 1}}
		next := plan.NodePlan{Cluster: "c", Version: plan.Version{Term: least, Revision: 1}}
		require.NoError(t, plan.Accept(others, next), "the others go along")
		term = least
		steps++
	}
	require.Equal(t, 3, steps)
}
