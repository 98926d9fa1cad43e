package logqueue

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// waitAtMost is generous: no test takes it unless it fails.
const waitAtMost = 30 * time.Second

// A reader that stops holds no writer up. What fits is kept in order, the rest is counted, and
// when the reader goes on a line says how much it missed.
func TestAReaderThatStopsHoldsNothingUp(t *testing.T) {
	read, write := io.Pipe() // It has no buffer: the first line is on its way until it is read.
	w := New(write)
	const lines = 100_000
	line := strings.Repeat("x", 90)
	for i := range lines {
		n, err := fmt.Fprintf(w, "%06d %s\n", i, line)
		require.NoError(t, err)
		require.Equal(t, 98, n)
	}
	lost := w.Lost()
	require.Greater(t, lost, uint64(lines-2*Limit/98-2))

	var got bytes.Buffer
	done := make(chan error)
	go func() {
		_, err := io.Copy(&got, read)
		done <- err
	}()
	w.Close(waitAtMost)
	require.NoError(t, write.Close())
	require.NoError(t, <-done)
	all := strings.Split(strings.TrimSuffix(got.String(), "\n"), "\n")
	kept, said := 0, false
	for _, text := range all {
		if strings.Contains(text, fmt.Sprintf(`msg="log lines lost: stderr was not read" lines=%d`, lost)) {
			said = true
			continue
		}
		require.True(t, strings.HasPrefix(text, fmt.Sprintf("%06d ", kept)), "%d: %s", kept, text)
		kept++
	}
	require.True(t, said)
	require.Equal(t, uint64(lines), uint64(kept)+lost)
}

// What was written before the end is written out, and nothing waits for a reader that never comes.
func TestClose(t *testing.T) {
	var got bytes.Buffer
	w := New(&got)
	fmt.Fprintln(w, "the last word")
	w.Close(waitAtMost)
	require.Equal(t, "the last word\n", got.String())
	fmt.Fprintln(w, "too late")
	require.Equal(t, uint64(1), w.Lost())

	_, never := io.Pipe()
	w = New(never)
	fmt.Fprintln(w, "unread")
	w.Close(time.Millisecond)
}
