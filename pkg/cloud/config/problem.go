package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxPrinted bounds the problems that an Error prints. A file of garbage has one on each
// line, and after some dozens the reader starts over anyway.
const maxPrinted = 50

// Problem is one thing that is wrong with a cloud-config.
type Problem struct {
	// Line and Column count from 1, columns in characters. They are 0 where the problem
	// has no such place; a file that is not YAML has a line but no column.
	Line, Column int
	// Path leads to the value, like "pools[0].addresses[1]"; "" is the whole file.
	Path string
	// Message is the cause.
	Message string
	// Cure is what to write instead, or "" where the message says it.
	Cure string
	// Source is the line's own text, for readers of the message that do not look at the file.
	Source string
}

// errorText renders p as a compiler would, so that editors can jump to it:
// "FILE:LINE:COLUMN: path: message; cure".
func (p Problem) errorText(name string) string {
	var b strings.Builder
	b.WriteString(name)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Column > 0 {
		fmt.Fprintf(&b, ":%d", p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Cure != "" {
		b.WriteString("; " + p.Cure)
	}
	return b.String()
}

// detail renders p as text does, with the line below it and a caret under the column.
func (p Problem) detail(name string) string {
	if p.Source == "" {
		return p.errorText(name)
	}
	return p.errorText(name) + "\n" + excerpt(p.Source, p.Column)
}

// Warning is something in a cloud-config that is allowed and probably not meant.
type Warning struct {
	// Name is the file's name as it was given.
	Name string
	Problem
}

// String renders the warning as "FILE:LINE:COLUMN: path: message; cure".
func (w Warning) String() string { return w.errorText(w.Name) }

// Detail renders the warning as String does, with the line and a caret under the column.
func (w Warning) Detail() string { return w.detail(w.Name) }

// Error holds every problem of one cloud-config, in the order of the file.
type Error struct {
	// Name is the file's name as it was given.
	Name     string
	Problems []Problem
	cause    error
}

// Error returns one line for each problem, without a newline at the end.
func (e *Error) Error() string { return e.render(Problem.errorText) }

// Detail returns what Error does, each problem with its line and a caret under the column.
func (e *Error) Detail() string { return e.render(Problem.detail) }

// Detail returns the Detail of an *Error, and the text of any other error.
func Detail(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Detail()
	}
	return err.Error()
}

func (e *Error) render(problem func(p Problem, name string) string) string {
	printed := e.Problems[:min(len(e.Problems), maxPrinted)]
	lines := make([]string, 0, len(printed)+1)
	for _, p := range printed {
		lines = append(lines, problem(p, e.Name))
	}
	if more := len(e.Problems) - len(printed); more > 0 {
		lines = append(lines, fmt.Sprintf("%s: and %d more problems", e.Name, more))
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the system's error where the file could not be read, and nil otherwise.
func (e *Error) Unwrap() error { return e.cause }

// newError returns an Error of problems of text brought into the order of the file.
func newError(name string, text []byte, problems []Problem) *Error {
	sortProblems(problems)
	quoteLines(text, problems)
	return &Error{Name: name, Problems: problems}
}

func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
