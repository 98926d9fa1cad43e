// Package testlog collects what is logged, for tests that read it while it is written.
package testlog

import (
	"log/slog"
	"strings"
	"sync"
)

// Log is a log. The zero value is empty and usable; any goroutine may call its methods at any
// time.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Logger returns what writes to l, each message as one line of text.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Write appends to l; it never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// Count returns how many lines contain text.
func (l *Log) Count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := 0
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			count++
		}
	}
	return count
}
