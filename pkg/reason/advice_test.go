package reason

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFault_K6_4_MessagesSayWhatToDo: each Reason of a condition that something is wrong by has a
// few words of advice, which are never clipped.
func TestFault_K6_4_MessagesSayWhatToDo(t *testing.T) {
	// Nothing is wrong, or the message has its own cure.
	without := []Reason{Allocated, PartiallyAllocated, PoolExhausted, SharingKeyMissing, AnnotationUnknown, AnnotationForeign, Announced, WaitingForAnnouncer, StatusContested, NothingAllocated}
	for _, e := range Table() {
		if e.Scope == ScopeNode {
			continue
		}
		cure := advice[e.Reason]
		require.Equal(t, slices.Contains(without, e.Reason), cure == "", e.Reason)
		require.LessOrEqual(t, len(cure), 80)
		message := Advised(e.Reason, strings.Repeat("x", 2*MaxMessage))
		if cure != "" {
			require.True(t, strings.HasSuffix(message, "; "+cure))
			require.LessOrEqual(t, len(message), MaxMessage)
			require.Equal(t, message, Advised(e.Reason, message), "once")
		}
	}
	require.Equal(t, "m", Advised(Announced, "m"))
}
