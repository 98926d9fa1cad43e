package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

// kind is what a row renames.
type kind string

const (
	kindObject  kind = "object"
	kindPackage kind = "package"
	kindFile    kind = "file"
	kindText    kind = "text"
	kindProse   kind = "prose"
	kindShadow  kind = "shadow"
	kindLocal   kind = "local"
)

// row is a line of the table.
type row struct {
	kind kind
	// line is the row as it stands in the table, at where.
	line, at string
	// scope is the package, or the pattern of files, that the row is about.
	scope string
	// typ is the type of a method or field, or "".
	typ      string
	old, new string
	word     *regexp.Regexp
	globs    []*regexp.Regexp
}

// table is all rows; more specific texts come first.
type table struct {
	rows []*row
}

var (
	packageRow = regexp.MustCompile(`^package (\S+) -> (\S+)$`)
	fileRow    = regexp.MustCompile(`^file (\S+) -> (\S+)$`)
	textRow    = regexp.MustCompile(`^(text|prose) ([^:]+): (.+) -> (.*)$`)
	shadowRow  = regexp.MustCompile(`^(shadow|local) ([^:]+): (\w+) -> (\w+)$`)
	objectRow  = regexp.MustCompile(`^([\w/-]+)\.(?:(\w+)\.)?(\w+) -> (\w+)$`)
	inRow      = regexp.MustCompile(`^in (\S+)$`)
	shortRow   = regexp.MustCompile(`^(?:\w+\.)?\w+ -> \w+$`)
)

func readTable(name string) (*table, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	t := &table{}
	var problems []error
	dir := ""
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimRight(line, " \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if m := inRow.FindStringSubmatch(line); m != nil {
			dir = m[1]
			continue
		}
		if shortRow.MatchString(line) {
			line = dir + "." + line
		}
		at := fmt.Sprintf("%s:%d", name, i+1)
		r := parseRow(line)
		if r == nil {
			problems = append(problems, fmt.Errorf("%s: %q is no row; table.txt begins with the forms there are", at, line))
			continue
		}
		r.at = at
		t.rows = append(t.rows, r)
	}
	return t, errors.Join(append(problems, t.check())...)
}

func parseRow(line string) *row {
	if m := packageRow.FindStringSubmatch(line); m != nil {
		return &row{kind: kindPackage, line: line, old: m[1], new: m[2]}
	}
	if m := fileRow.FindStringSubmatch(line); m != nil {
		return &row{kind: kindFile, line: line, old: m[1], new: m[2]}
	}
	if m := textRow.FindStringSubmatch(line); m != nil {
		r := &row{kind: kind(m[1]), line: line, scope: m[2], old: m[3], new: m[4], word: wordOf(m[3])}
		r.globs = globsOf(m[2])
		return r
	}
	if m := shadowRow.FindStringSubmatch(line); m != nil {
		r := &row{kind: kind(m[1]), line: line, scope: m[2], old: m[3], new: m[4]}
		r.globs = globsOf(m[2])
		return r
	}
	if m := objectRow.FindStringSubmatch(line); m != nil {
		return &row{kind: kindObject, line: line, scope: m[1], typ: m[2], old: m[3], new: m[4]}
	}
	return nil
}

// wordOf finds text that is not part of a longer word.
func wordOf(text string) *regexp.Regexp {
	expression := regexp.QuoteMeta(text)
	if isWord(text[0]) {
		expression = `\b` + expression
	}
	if isWord(text[len(text)-1]) {
		expression += `\b`
	}
	return regexp.MustCompile(expression)
}

func isWord(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// globsOf are the patterns of a list with commas: * is any name, ** any number of directories.
func globsOf(list string) []*regexp.Regexp {
	var globs []*regexp.Regexp
	for glob := range strings.SplitSeq(list, ",") {
		expression := regexp.QuoteMeta(glob)
		expression = strings.ReplaceAll(expression, `\*\*/`, `(?:.*/)?`)
		expression = strings.ReplaceAll(expression, `\*\*`, `.*`)
		expression = strings.ReplaceAll(expression, `\*`, `[^/]*`)
		globs = append(globs, regexp.MustCompile("^"+expression+"$"))
	}
	return globs
}

func (r *row) covers(file string) bool {
	return slices.ContainsFunc(r.globs, func(glob *regexp.Regexp) bool { return glob.MatchString(file) })
}

// check refuses tables that would change something again when they are applied again.
func (t *table) check() error {
	var problems []error
	old := map[string]*row{}
	for _, r := range t.rows {
		key := fmt.Sprint(r.kind, " ", r.scope, " ", r.typ, " ", r.old)
		if other := old[key]; other != nil {
			problems = append(problems, fmt.Errorf("%s: %s has the same left side", r.at, other.at))
		}
		old[key] = r
	}
	for _, r := range t.rows {
		if other := old[fmt.Sprint(r.kind, " ", r.scope, " ", r.typ, " ", r.new)]; other != nil {
			problems = append(problems, fmt.Errorf("%s: %q would be renamed again by %s", r.at, r.new, other.at))
		}
		if r.word != nil && r.word.MatchString(r.new) {
			problems = append(problems, fmt.Errorf("%s: the new text has the old one in it", r.at))
		}
	}
	// Longer texts go first: a sentence before a word in it.
	slices.SortStableFunc(t.rows, func(a, b *row) int {
		if a.word == nil || b.word == nil {
			return 0
		}
		return cmp.Compare(len(b.old), len(a.old))
	})
	return errors.Join(problems...)
}

func (t *table) of(k kind) []*row {
	var rows []*row
	for _, r := range t.rows {
		if r.kind == k {
			rows = append(rows, r)
		}
	}
	return rows
}

// newDir is where the package in the directory dir is after the table; dir itself if no row is about it.
func (t *table) newDir(dir string) string {
	for _, r := range t.of(kindPackage) {
		if r.old == dir {
			return r.new
		}
	}
	return dir
}

// newPath is the path of a file after the table.
func (t *table) newPath(file string) string {
	for _, r := range t.of(kindFile) {
		if r.old == file {
			file = r.new
			break
		}
		if twin, ok := strings.CutSuffix(r.old, ".go"); ok && file == twin+"_test.go" {
			file = strings.TrimSuffix(r.new, ".go") + "_test.go"
			break
		}
	}
	// The innermost package whose directory the file is below decides.
	best := ""
	for _, r := range t.of(kindPackage) {
		if strings.HasPrefix(file, r.old+"/") && len(r.old) > len(best) {
			best = r.old
		}
	}
	if best == "" {
		return file
	}
	return path.Join(t.newDir(best), strings.TrimPrefix(file, best+"/"))
}
