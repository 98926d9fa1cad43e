package observer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// margin is how much of what was before and after is shown with what a timeline is of.
	margin = 2 * time.Second
	// remarkable is how long a stall is at least to be shown.
	remarkable = 30 * time.Millisecond
)

// Timeline prints what happened from shortly before from until shortly after until, one
// line each, with seconds since from: faults, notes, who began and who ended to answer for
// address, requests to it that failed or took longer than slow, and remarkable stalls. Where it says
// "sent" frames were seen at the node's own port, where it says "answers" at the client's.
func (h History) Timeline(address netip.Addr, from, until time.Time, slow time.Duration) string {
	shown := span{from.Add(-margin), until.Add(margin)}
	var lines []Note
	add := func(at time.Time, format string, args ...any) {
		if !at.Before(shown.from) && !at.After(shown.until) {
			lines = append(lines, Note{at, fmt.Sprintf(format, args...)})
		}
	}
	for _, n := range h.Notes {
		add(n.At, "%s", n.Text)
	}
	for _, f := range h.Faults {
		add(f.Since, "==> %s", f.Name)
		if !f.Begun.IsZero() {
			add(f.Begun, "    has begun: %s", f.Name)
		}
		if !f.Until.IsZero() {
			add(f.Until, "==> the end of: %s", f.Name)
		}
		if f.Since.Before(shown.from) && (f.Until.IsZero() || f.Until.After(shown.from)) {
			add(shown.from, "==> (since %.3f) %s", f.Since.Sub(from).Seconds(), f.Name)
		}
	}
	for _, s := range h.Stalls {
		if s.Until.Sub(s.From) < remarkable {
			continue
		}
		add(s.From, "this machine stood still for %s", ms(s.Until.Sub(s.From)))
	}
	for _, r := range h.Requests {
		if r.Address == address && (r.Failure != "" || r.Took > slow) {
			add(r.At, "a request takes %s %s", ms(r.Took), r.Failure)
		}
	}
	h.runs(address, shown, add)
	slices.SortStableFunc(lines, func(a, b Note) int { return a.At.Compare(b.At) })
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%9.3f  %s\n", l.At.Sub(from).Seconds(), l.Text)
	}
	return b.String()
}

// runs adds when nodes began and ended to answer, as seen at either port.
func (h History) runs(address netip.Addr, shown span, add func(time.Time, string, ...any)) {
	const pause = 150 * time.Millisecond
	for _, delivered := range []bool{false, true} {
		verb := map[bool]string{false: "sent", true: "answers"}[delivered]
		var answers []Answer
		for _, a := range h.Answers {
			if a.Address != address || a.Delivered != delivered || a.At.Before(shown.from) || a.At.After(shown.until) {
				continue
			}
			answers = append(answers, a)
			if a.Unasked && !delivered {
				add(a.At, "%s announces %s", a.Node, address)
			}
		}
		for _, r := range runsOf(answers, pause) {
			add(r.from, "%s %s, first", r.node, verb)
			add(r.until, "%s %s, last for a while", r.node, verb)
		}
	}
}
