package reason

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// TestFault_K1_7_TextsAreClipped: what others write is repeated in part, what to do in full.
func TestFault_K1_7_TextsAreClipped(t *testing.T) {
	require.Equal(t, "short", Quote("short"))
	require.Equal(t, "a\uFFFDb", Quote("a\xffb"))
	for _, text := range []string{strings.Repeat("x", 200_000), strings.Repeat("ä", 200_000), strings.Repeat("\xff", 200_000)} {
		quoted := Quote(text)
		require.LessOrEqual(t, len(quoted), MaxQuote)
		require.True(t, utf8.ValidString(quoted))
		require.True(t, strings.HasSuffix(quoted, "…"))

		cure := strings.Repeat("c", 300)
		message := Message(text, cure)
		require.LessOrEqual(t, len(message), MaxMessage)
		require.True(t, strings.HasSuffix(message, "; "+cure))
	}
	long := strings.Repeat("c", 2*MaxMessage)
	require.True(t, strings.HasSuffix(Message("found", long), long), "the cure is never clipped")
	require.Equal(t, "found; do this", Message("found", "do this"))
	require.Equal(t, "found", Message("found", ""))
}
