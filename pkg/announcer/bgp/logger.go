package bgp

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
)

// logger takes gobgp's log.
type logger struct {
	peer  atomic.Pointer[string]
	lines func(string)
}

var _ gobgplog.Logger = (*logger)(nil)

// Panic is said of what gobgp takes for impossible. It does not go on afterwards.
func (l *logger) Panic(msg string, fields gobgplog.Fields) { l.exitProcess(msg, fields) }

// Fatal is as Panic.
func (l *logger) Fatal(msg string, fields gobgplog.Fields) { l.exitProcess(msg, fields) }

// exitProcess ends the process, since nothing recovers from it: gobgp relies on not going on.
func (l *logger) exitProcess(msg string, fields gobgplog.Fields) { panic(l.text(msg, fields)) }

// Error is said of what failed.
func (l *logger) Error(msg string, fields gobgplog.Fields) { l.writeLine(msg, fields) }

// Warn is said of what the other side did wrong, and of NOTIFICATIONs.
func (l *logger) Warn(msg string, fields gobgplog.Fields) { l.writeLine(msg, fields) }

// Info is said of sessions that come and go.
func (l *logger) Info(msg string, fields gobgplog.Fields) { l.writeLine(msg, fields) }

// Debug is said of every message.
func (*logger) Debug(string, gobgplog.Fields) {}

// SetLevel does nothing: GetLevel says what is wanted.
func (*logger) SetLevel(gobgplog.LogLevel) {}

// GetLevel spares gobgp making lines that nothing reads.
func (*logger) GetLevel() gobgplog.LogLevel { return gobgplog.InfoLevel }

func (l *logger) writeLine(msg string, fields gobgplog.Fields) { l.lines(l.text(msg, fields)) }

// text renders a line with its fields, sorted.
func (l *logger) text(msg string, fields gobgplog.Fields) string {
	var b strings.Builder
	if peer := l.peer.Load(); peer != nil {
		b.WriteString("peer " + *peer + ": ")
	}
	b.WriteString(msg)
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if key != "Topic" && key != "Key" {
			fmt.Fprintf(&b, " %s=%v", strings.ToLower(key), fields[key])
		}
	}
	return b.String()
}
