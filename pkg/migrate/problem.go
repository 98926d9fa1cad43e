package migrate

import (
	"fmt"
	"strings"
)

// maxPrinted bounds the problems that an Error prints.
const maxPrinted = 50

// Problem is something in the source that is not understood.
type Problem struct {
	Place
	// Message is the cause, Cure what to do; "" if the message says it.
	Message, Cure string
}

// text renders p as a compiler would: "FILE:LINE: document N: OBJECT: PATH: message; cure".
func (p Problem) text(name string) string {
	text := name + ":"
	if p.Line == 0 {
		text += " "
	}
	if place := p.Place.String(); place != "" {
		text += place + ": "
	}
	text += p.Message
	if p.Cure != "" {
		text += "; " + p.Cure
	}
	return text
}

// Error holds every problem of a source, in its order.
type Error struct {
	Name     string
	Problems []Problem
}

// Error returns one line for each problem, without a newline at the end.
func (e *Error) Error() string {
	var lines []string
	for _, p := range e.Problems[:min(len(e.Problems), maxPrinted)] {
		lines = append(lines, p.text(e.Name))
	}
	if more := len(e.Problems) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("%s: and %d more problems", e.Name, more))
	}
	return strings.Join(lines, "\n")
}

// report collects what is found in a source: problems, losses and notes.
type report struct {
	// generated is set if the lines of the source say nothing.
	generated     bool
	problems      []Problem
	losses, notes []Finding
	// known are the findings so far: the same one is recorded once.
	known map[Finding]bool
}

func (r *report) fail(place Place, cure, format string, args ...any) {
	r.problems = append(r.problems, Problem{Place: place, Message: fmt.Sprintf(format, args...), Cure: cure})
}

// lose records that something is not carried over.
func (r *report) lose(place Place, format string, args ...any) {
	r.losses = r.appendOnce(r.losses, Finding{place, fmt.Sprintf(format, args...)})
}

// note records something that is carried over and deserves a look.
func (r *report) note(place Place, format string, args ...any) {
	r.notes = r.appendOnce(r.notes, Finding{place, fmt.Sprintf(format, args...)})
}

func (r *report) appendOnce(list []Finding, f Finding) []Finding {
	if r.known[f] {
		return list
	}
	r.known[f] = true
	return append(list, f)
}
