package lograte

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var began = time.Date(2026, time.November, 30, 12, 0, 0, 0, time.UTC)

// One address that is claimed 300 times a second is worth a line a minute, and the next one
// says how many there were.
func TestOneLineForAKey(t *testing.T) {
	l := NewDefault()
	var at []time.Duration
	var counts []uint64
	for i := range 300 * 150 {
		now := time.Duration(i) * time.Second / 300
		if n, ok := l.Allow(began.Add(now), "192.0.2.1"); ok {
			at, counts = append(at, now), append(counts, n)
		}
	}
	require.Equal(t, []time.Duration{0, time.Minute, 2 * time.Minute}, at)
	require.Equal(t, []uint64{0, 300*60 - 1, 300*60 - 1}, counts)
}

// Ever new keys: no span of a minute has more than 60 lines, a summary included, nothing is
// lost, and the memory is bounded.
func TestLinesInAll(t *testing.T) {
	l := NewDefault()
	var written []time.Duration
	var told, ordinary uint64
	const total = 2000 * 200
	for i := range total {
		now := time.Duration(i) * time.Second / 2000
		if n, ok := l.Allow(began.Add(now), fmt.Sprint(i)); ok {
			told += n
			ordinary++
			written = append(written, now)
		}
		if n := l.Summary(began.Add(now)); n > 0 {
			told += n
			written = append(written, now)
		}
	}
	for i, first := range written {
		inWindow := 0
		for _, at := range written[i:] {
			if at < first+Window {
				inWindow++
			}
		}
		require.LessOrEqual(t, inWindow, Lines)
	}
	require.LessOrEqual(t, len(l.last), Lines)
	end := began.Add(time.Hour)
	summary := l.Summary(end)
	require.Positive(t, summary)
	require.Zero(t, l.Summary(end), "it is given once")
	require.EqualValues(t, total, told+summary+ordinary, "every line was written or counted")
}

// What stops before its line's time is over is summarized all the same.
func TestSummaryAfterTheEnd(t *testing.T) {
	l := New(10, time.Minute)
	require.Zero(t, l.Next())
	_, ok := l.Allow(began, "a")
	require.True(t, ok)
	require.Zero(t, l.Next())
	_, ok = l.Allow(began.Add(time.Second), "a")
	require.False(t, ok)
	require.Equal(t, began.Add(time.Minute+time.Second), l.Next())
	require.Zero(t, l.Summary(began.Add(time.Minute)))
	require.EqualValues(t, 1, l.Summary(l.Next()))
	require.Zero(t, l.Next())
}

func TestLog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	l := NewDefault()
	for i := range 10 {
		l.Log(log, began.Add(time.Duration(i)*15*time.Second), slog.LevelWarn, "a", "foreign claim", "address", "192.0.2.1")
	}
	l.LogSummary(log, began.Add(time.Hour), slog.LevelInfo, "log lines not written")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 4)
	require.NotContains(t, lines[0], "suppressed")
	require.Contains(t, lines[1], `msg="foreign claim" address=192.0.2.1 suppressed=3`)
	require.Contains(t, lines[3], `msg="log lines not written" suppressed=1`)
}
