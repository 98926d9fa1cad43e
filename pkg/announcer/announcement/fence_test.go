package announcement_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

func TestAccept(t *testing.T) {
	set := func(cluster string, term, revision uint64) announcement.Set {
		return announcement.Set{Cluster: cluster, Stamp: announcement.Stamp{Term: term, Revision: revision}}
	}
	held := set("a", 3, 17)
	t.Run("the first plan is taken from any cluster", func(t *testing.T) {
		require.NoError(t, announcement.Accept(announcement.Set{}, set("b", 1, 1)))
	})
	t.Run("newer in revision or in term", func(t *testing.T) {
		require.NoError(t, announcement.Accept(held, set("a", 3, 18)))
		require.NoError(t, announcement.Accept(held, set("a", 4, 1)))
	})
	t.Run("the same again is a duplicate", func(t *testing.T) {
		var stale *announcement.StaleError
		require.ErrorAs(t, announcement.Accept(held, set("a", 3, 17)), &stale)
		require.True(t, stale.Duplicate())
	})
	t.Run("older in revision, or in term whatever its revision", func(t *testing.T) {
		for _, old := range []announcement.Set{set("a", 3, 16), set("a", 2, 900)} {
			var stale *announcement.StaleError
			require.ErrorAs(t, announcement.Accept(held, old), &stale)
			require.False(t, stale.Duplicate())
			require.Equal(t, "plan "+old.Stamp.String()+" refused: plan 3.17 was accepted before", stale.Error())
		}
	})
	t.Run("another cluster, however new", func(t *testing.T) {
		var foreign *announcement.ForeignError
		require.ErrorAs(t, announcement.Accept(held, set("b", 900, 1)), &foreign)
		require.Equal(t, announcement.ForeignError{Have: "a", Got: "b"}, *foreign)
	})
	t.Run("a plan that cannot be ordered", func(t *testing.T) {
		require.ErrorIs(t, announcement.Accept(held, set("", 4, 1)), announcement.ErrIncomplete)
		require.ErrorIs(t, announcement.Accept(announcement.Set{}, set("a", 0, 0)), announcement.ErrIncomplete)
	})
}
