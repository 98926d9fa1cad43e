package main

import (
	"bytes"
	"fmt"
	"go/format"
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// tracked are the files of the tree that git knows or would add, relative to dir.
func tracked(dir string) ([]string, error) {
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files in %s: %w", dir, err)
	}
	var files []string
	for file := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		if info, err := os.Lstat(filepath.Join(dir, file)); err == nil && info.Mode().IsRegular() {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// own reports whether a file is of this tool, whose table has the old names for good.
func own(file string) bool { return strings.HasPrefix(file, "hack/rename/") }

// moves moves files and directories as the table says, and returns old paths by new ones.
func moves(dir string, t *table) (map[string]string, error) {
	files, err := tracked(dir)
	if err != nil {
		return nil, err
	}
	moved := map[string]string{}
	for _, file := range files {
		to := t.newPath(file)
		moved[to] = file
		if to == file || own(file) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, to)); err == nil {
			return nil, fmt.Errorf("%s cannot become %s: that exists", file, to)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, to)), 0o755); err != nil {
			return nil, err
		}
		if err := os.Rename(filepath.Join(dir, file), filepath.Join(dir, to)); err != nil {
			return nil, err
		}
		// Only an empty directory is removed.
		for d := filepath.Dir(file); d != "."; d = filepath.Dir(d) {
			if os.Remove(filepath.Join(dir, d)) != nil {
				break
			}
		}
	}
	return moved, nil
}

// pages are the files, but for code, in which names of the code stand.
var pages = row{globs: globsOf("README.md,CONTRIBUTING.md,docs/*.md,hack/*,Makefile,.ci/*")}

var identifier = regexp.MustCompile(`\b[A-Za-z_]\w*`)

// writeAll writes the files that change: out are the Go files with renamed identifiers, by their
// old paths, moved the old paths of all files, and names the renamed ones for pages and scripts. It
// returns the lines of the rows that matched.
func writeAll(dir string, t *table, out map[string][]byte, moved, names map[string]string) (map[string]bool, error) {
	used := map[string]bool{}
	words := newTexts(t)
	for to, from := range moved {
		if own(from) {
			continue
		}
		words.note(from, to, used)
		name := filepath.Join(dir, to)
		before, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		content := before
		if changed, ok := out[from]; ok {
			content = changed
		}
		if bytes.IndexByte(content, 0) >= 0 {
			continue
		}
		content = words.apply(content, from, to, used)
		if strings.HasSuffix(to, ".go") {
			content = plainSays(to, content)
		}
		if pages.covers(from) {
			content = identifier.ReplaceAllFunc(content, func(found []byte) []byte {
				if name := names[string(found)]; name != "" {
					return []byte(name)
				}
				return found
			})
		}
		if bytes.Equal(content, before) {
			continue
		}
		if strings.HasSuffix(to, ".go") {
			if content, err = format.Source(content); err != nil {
				return nil, fmt.Errorf("%s: %w", to, err)
			}
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(name, content, info.Mode().Perm()); err != nil {
			return nil, err
		}
	}
	return used, nil
}

// texts replaces paths and words in any file.
type texts struct {
	table *table
	paths []pathRow
}

type pathRow struct {
	row  *row
	find *regexp.Regexp
}

func newTexts(t *table) *texts {
	x := &texts{table: t}
	for _, k := range []kind{kindFile, kindPackage} {
		rows := t.of(k)
		slices.SortStableFunc(rows, func(a, b *row) int { return len(b.old) - len(a.old) })
		for _, r := range rows {
			x.paths = append(x.paths, pathRow{r, regexp.MustCompile(`(^|[^\w.-])((?:\./|baremetal\.cloud/ccm/)?)` + regexp.QuoteMeta(r.old) + `($|[^\w-])`)})
		}
	}
	return x
}

// note marks the rows of files and packages that moved something.
func (x *texts) note(from, to string, used map[string]bool) {
	if from == to {
		return
	}
	for _, r := range x.table.rows {
		if r.kind == kindPackage && strings.HasPrefix(from, r.old+"/") || r.kind == kindFile && (from == r.old || to == r.new) {
			used[r.line] = true
		}
	}
}

func (x *texts) apply(content []byte, from, to string, used map[string]bool) []byte {
	if from == "CHANGELOG.md" {
		return content // it has old names where it explains the new ones
	}
	for _, p := range x.paths {
		to := p.row.new
		if p.row.kind == kindFile {
			to = x.table.newPath(p.row.old)
		}
		// Twice, for two paths that share the character between them.
		for range 2 {
			content = p.find.ReplaceAll(content, []byte("${1}${2}"+to+"${3}"))
		}
	}
	var rows []*row
	for _, r := range x.table.rows {
		if r.word != nil && (r.covers(from) || r.covers(to)) && r.word.Match(content) {
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		return content
	}
	content = replaceWords(content, rows, kindText, used)
	if !strings.HasSuffix(to, ".go") {
		return replaceWords(content, rows, kindProse, used)
	}
	return proseOf(content, func(text []byte) []byte { return replaceWords(text, rows, kindProse, used) })
}

func replaceWords(content []byte, rows []*row, k kind, used map[string]bool) []byte {
	for _, r := range rows {
		if r.kind == k && r.word.Match(content) {
			used[r.line] = true
			content = r.word.ReplaceAllLiteral(content, []byte(r.new))
		}
	}
	return content
}

// proseOf applies change to what people read in a Go file: comments, and texts of more than one word.
func proseOf(content []byte, change func([]byte) []byte) []byte {
	fset := token.NewFileSet()
	file := fset.AddFile("", -1, len(content))
	var s scanner.Scanner
	s.Init(file, content, nil, scanner.ScanComments)
	var out bytes.Buffer
	last := 0
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			break
		}
		isText := tok == token.STRING && strings.Contains(text, " ") || tok == token.COMMENT && !strings.HasPrefix(text, "//go:")
		if !isText {
			continue
		}
		at := file.Offset(pos)
		out.Write(content[last:at])
		out.Write(change(content[at : at+len(text)]))
		last = at + len(text)
	}
	out.Write(content[last:])
	return out.Bytes()
}
