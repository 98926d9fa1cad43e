// Package lograte bounds the log lines that others can cause: a LAN host, a node or a router
// that repeats something a thousand times a second is worth one line a minute.
package lograte

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// Window is the usual time over which lines are counted.
	Window = time.Minute
	// Lines is the usual number of lines in a Window.
	Lines = 60

	// attribute is the key of the number of lines that were not written.
	attribute = "suppressed"
)

// Limiter lets one line for each key through in a window, and a bounded number in all. Memory
// is bounded by the latter. It may be used by several goroutines. It reads no clock.
type Limiter struct {
	window time.Duration

	mu sync.Mutex
	// written are the times of the newest lines, the oldest of them at next, and last has the
	// time of each by key. Both are guarded by mu.
	written []time.Time
	next    int
	last    map[string]time.Time
	// suppressed counts lines since the last one that named their number, since is the time of
	// the first of them, and summary that of the last Summary. All are guarded by mu.
	suppressed     uint64
	since, summary time.Time
}

// New returns a Limiter that lets through one line for each key and at most so many lines in
// all, a Summary included, in any span as long as window. There are two lines at least.
func New(lines int, window time.Duration) *Limiter {
	return &Limiter{window: window, written: make([]time.Time, max(1, lines-1)), last: map[string]time.Time{}}
}

// NewDefault returns a Limiter of Lines in a Window.
func NewDefault() *Limiter { return New(Lines, Window) }

// Allow reports whether a line about key may be written at now. If so, suppressed is how many
// lines were not written since the last one that was given such a number.
func (l *Limiter) Allow(now time.Time, key string) (suppressed uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, known := l.last[key]
	oldest := l.written[l.next]
	if known && l.recentLocked(now, last) || l.recentLocked(now, oldest) {
		if l.suppressed++; l.suppressed == 1 {
			l.since = now
		}
		return 0, false
	}
	for other, at := range l.last {
		if !l.recentLocked(now, at) {
			delete(l.last, other)
		}
	}
	l.last[key] = now
	l.written[l.next] = now
	l.next = (l.next + 1) % len(l.written)
	return l.takeLocked(), true
}

// Log writes a line about key at now if Allow allows it, with the number of lines that were
// not written before it.
func (l *Limiter) Log(log *slog.Logger, now time.Time, level slog.Level, key, message string, args ...any) {
	suppressed, ok := l.Allow(now, key)
	if !ok {
		return
	}
	if suppressed > 0 {
		args = append(args[:len(args):len(args)], attribute, suppressed)
	}
	log.Log(context.Background(), level, message, args...)
}

// Next returns when there is something to summarize, or the zero time.
func (l *Limiter) Next() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nextLocked()
}

// Summary returns how many lines were not written, once that is due: a window after the first of
// them, if no other line gave their number before. Else it returns 0.
func (l *Limiter) Summary(now time.Time) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if next := l.nextLocked(); next.IsZero() || now.Before(next) {
		return 0
	}
	l.summary = now
	return l.takeLocked()
}

// LogSummary writes the Summary, if it is due.
func (l *Limiter) LogSummary(log *slog.Logger, now time.Time, level slog.Level, message string) {
	if suppressed := l.Summary(now); suppressed > 0 {
		log.Log(context.Background(), level, message, attribute, suppressed)
	}
}

func (l *Limiter) nextLocked() time.Time {
	if l.suppressed == 0 {
		return time.Time{}
	}
	next := l.since.Add(l.window)
	if again := l.summary.Add(l.window); !l.summary.IsZero() && again.After(next) {
		return again
	}
	return next
}

func (l *Limiter) takeLocked() uint64 {
	n := l.suppressed
	l.suppressed = 0
	return n
}

// recentLocked reports whether at is less than a window before now.
func (l *Limiter) recentLocked(now, at time.Time) bool {
	return !at.IsZero() && now.Sub(at) < l.window
}
