package config

import (
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// report collects the problems of a file. Decoding and checking continue after a problem.
type report struct {
	problems []Problem
	warnings []Problem
}

func (r *report) fail(n *yaml.Node, path, cure, format string, args ...any) {
	r.problems = append(r.problems, Problem{Line: n.Line, Column: n.Column, Path: path, Message: fmt.Sprintf(format, args...), Cure: cure})
}

func (r *report) warn(n *yaml.Node, path, cure, format string, args ...any) {
	r.warnings = append(r.warnings, Problem{Line: n.Line, Column: n.Column, Path: path, Message: fmt.Sprintf(format, args...), Cure: cure})
}

// hasProblems reports whether there is a problem at path or below it.
func (r *report) hasProblems(path string) bool {
	for _, p := range r.problems {
		if rest, ok := strings.CutPrefix(p.Path, path); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// place is where a value stands in the file, and its key where it has one.
type place struct{ value, key *yaml.Node }

// index leads from the path of each value that was read to its place.
type index map[string]place

// spot is a value of the file by its path, whether the file has it or not.
type spot struct {
	*checker
	path string
}

// key returns the value of a key of the mapping s.
func (s spot) key(name string) spot { return spot{s.checker, joinPath(s.path, name)} }

// item returns an entry of the list s.
func (s spot) item(i int) spot { return spot{s.checker, s.path + "[" + strconv.Itoa(i) + "]"} }

// given reports whether the file has the value, in a form that could be decoded.
func (s spot) given() bool {
	_, ok := s.index[s.path]
	return ok
}

// keyOr returns the value of a key of the mapping s, or s where the file has no such key.
func (s spot) keyOr(name string) spot {
	if k := s.key(name); k.given() {
		return k
	}
	return s
}

// node returns where the value stands. For a value that the file does not have, it is the nearest
// value around it.
func (s spot) node() *yaml.Node {
	for path := s.path; ; path = path[:max(0, strings.LastIndexAny(path, ".["))] {
		if p, ok := s.index[path]; ok {
			return p.value
		}
	}
}

// keyNode returns where the key of a given value stands.
func (s spot) keyNode() *yaml.Node { return s.index[s.path].key }

// position renders where the value stands as LINE:COLUMN.
func (s spot) position() string {
	n := s.node()
	return fmt.Sprintf("%d:%d", n.Line, n.Column)
}

func (s spot) fail(cure, format string, args ...any) {
	s.report.fail(s.node(), s.path, cure, format, args...)
}

func (s spot) warn(cure, format string, args ...any) {
	s.report.warn(s.node(), s.path, cure, format, args...)
}

func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
