package announcer

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// logPause is the least time between two lots of lines; what happens in between is logged
	// together.
	logPause = time.Second
	// logNamesLimit is how many addresses a line about several names.
	logNamesLimit = 3
	// logLinesLimit is how many lines are written at once, beside one for each change about what
	// exceeds it. Details may name addresses, of which there are thousands.
	logLinesLimit = 16
)

// change is the kind of a line, in the order in which kinds are written.
type change uint8

const (
	stopped change = iota
	// hindered is one that the plan names first and that is not answered for, unable one that
	// could not be taken over.
	hindered
	unable
	answering
)

// event is what happened last to an address.
type event struct {
	change change
	// detail is where or why; addresses with the same detail share a line.
	detail string
}

// line is one line for the log.
type line struct {
	level slog.Level
	text  string
}

// logAggregator turns what happens to addresses into few lines that a person can read. It is pure.
type logAggregator struct {
	events map[netip.Addr]event
	last   time.Time
}

func newLogAggregator() *logAggregator { return &logAggregator{events: map[netip.Addr]event{}} }

// addEvent notes what happened to address; a later event replaces an earlier one that was not
// written yet.
func (j *logAggregator) addEvent(address netip.Addr, e event) { j.events[address] = e }

// nextDue returns when there is something to write, or the zero time.
func (j *logAggregator) nextDue() time.Time {
	if len(j.events) == 0 {
		return time.Time{}
	}
	return j.last.Add(logPause)
}

// takeDue returns the lines that are due at now; plan is named as their cause.
func (j *logAggregator) takeDue(now time.Time, plan string) []line {
	if next := j.nextDue(); next.IsZero() || next.After(now) {
		return nil
	}
	return j.flushLines(now, plan)
}

// flushLines returns all lines, due or not.
func (j *logAggregator) flushLines(now time.Time, plan string) []line {
	groups := map[event][]netip.Addr{}
	for address, e := range j.events {
		groups[e] = append(groups[e], address)
	}
	j.events = map[netip.Addr]event{}
	j.last = now
	order := make([]event, 0, len(groups))
	for e := range groups {
		order = append(order, e)
	}
	slices.SortFunc(order, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.change, b.change), cmp.Compare(a.detail, b.detail))
	})
	order = joinEvents(order, groups)
	lines := make([]line, 0, len(order))
	for _, e := range order {
		lines = append(lines, e.logLine(groups[e], plan))
	}
	return lines
}

// joinEvents returns the first logLinesLimit of order, and in place of the others one event for each
// change. It joins their groups.
func joinEvents(order []event, groups map[event][]netip.Addr) []event {
	if len(order) <= logLinesLimit {
		return order
	}
	out := slices.Clone(order[:logLinesLimit])
	for _, e := range order[logLinesLimit:] {
		all := event{e.change, "for several reasons"}
		if e.change == answering {
			all.detail = "several interfaces"
		}
		if !slices.Contains(out[logLinesLimit:], all) {
			out = append(out, all)
		}
		groups[all] = append(groups[all], groups[e]...)
	}
	return out
}

func (e event) logLine(addresses []netip.Addr, plan string) line {
	slices.SortFunc(addresses, netip.Addr.Compare)
	what, list := addresses[0].String(), ""
	if n := len(addresses); n > 1 {
		what, list = fmt.Sprintf("%d addresses", n), ": "+listNames(addresses)
	}
	switch e.change {
	case stopped:
		return line{slog.LevelInfo, fmt.Sprintf("stopped answering for %s: %s (plan %s)%s", what, e.detail, plan, list)}
	case hindered:
		return line{slog.LevelWarn, fmt.Sprintf("not answering for %s: %s (plan %s)%s", what, e.detail, plan, list)}
	case unable:
		return line{slog.LevelWarn, fmt.Sprintf("could not take over %s: %s (plan %s)%s", what, e.detail, plan, list)}
	default:
		return line{slog.LevelInfo, fmt.Sprintf("answering for %s on %s (plan %s)%s", what, e.detail, plan, list)}
	}
}

// listNames lists a few of addresses and counts the others.
func listNames(addresses []netip.Addr) string {
	var out []string
	for _, a := range addresses[:min(len(addresses), logNamesLimit)] {
		out = append(out, a.String())
	}
	if more := len(addresses) - logNamesLimit; more > 0 {
		return strings.Join(out, ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(out, ", ")
}
