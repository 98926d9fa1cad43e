package plan_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

func TestAccept(t *testing.T) {
	set := func(cluster string, term, revision uint64) plan.NodePlan {
		return plan.NodePlan{Cluster: cluster, Version: plan.Version{Term: term, Revision: revision}}
	}
	held := set("a", 3, 17)
	t.Run("the first plan is taken from any cluster", func(t *testing.T) {
		require.NoError(t, plan.Accept(plan.NodePlan{}, set("b", 1, 1)))
	})
	t.Run("newer in revision or in term", func(t *testing.T) {
		require.NoError(t, plan.Accept(held, set("a", 3, 18)))
		require.NoError(t, plan.Accept(held, set("a", 4, 1)))
	})
	t.Run("the same again is a duplicate", func(t *testing.T) {
		var stale *plan.StaleError
		require.ErrorAs(t, plan.Accept(held, set("a", 3, 17)), &stale)
		require.True(t, stale.Duplicate())
	})
	t.Run("older in revision, or in term whatever its revision", func(t *testing.T) {
		for _, old := range []plan.NodePlan{set("a", 3, 16), set("a", 2, 900)} {
			var stale *plan.StaleError
			require.ErrorAs(t, plan.Accept(held, old), &stale)
			require.False(t, stale.Duplicate())
			require.Equal(t, "plan "+old.Version.String()+" refused: plan 3.17 was accepted before", stale.Error())
		}
	})
	t.Run("another cluster, however new", func(t *testing.T) {
		var foreign *plan.ForeignError
		require.ErrorAs(t, plan.Accept(held, set("b", 900, 1)), &foreign)
		require.Equal(t, plan.ForeignError{Have: "a", Got: "b"}, *foreign)
	})
	t.Run("a plan that cannot be ordered", func(t *testing.T) {
		require.ErrorIs(t, plan.Accept(held, set("", 4, 1)), plan.ErrIncomplete)
		require.ErrorIs(t, plan.Accept(plan.NodePlan{}, set("a", 0, 0)), plan.ErrIncomplete)
	})
}
