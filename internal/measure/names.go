package measure

import (
	"go/ast"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/tools/go/packages"
)

// particles are second words that say no more than the first alone.
var particles = []string{"It", "All", "One", "Now", "Up"}

// oneWord reports whether the name of a function has no object: one word, or a particle after it.
func oneWord(name string) bool {
	for _, p := range particles {
		if short, is := strings.CutSuffix(name, p); is && short != "" {
			name = short
			break
		}
	}
	return !strings.Contains(name, "_") && !strings.ContainsFunc(name[1:], unicode.IsUpper)
}

// functions are the names of the unexported functions and methods, and in which packages they are.
func functions(loaded []*packages.Package) map[string][]string {
	where := map[string][]string{}
	for _, p := range loaded {
		for _, f := range p.Syntax {
			for _, d := range f.Decls {
				function, ok := d.(*ast.FuncDecl)
				if !ok || function.Name.IsExported() || function.Recv == nil && (function.Name.Name == "main" || function.Name.Name == "init") {
					continue
				}
				where[function.Name.Name] = append(where[function.Name.Name], short(p))
			}
		}
	}
	return where
}

// wordShare returns how many unexported functions there are, and how many of them are called by
// one word.
func wordShare(where map[string][]string) (all, single int) {
	for name, places := range where {
		all += len(places)
		if oneWord(name) {
			single += len(places)
		}
	}
	return all, single
}

// overloaded returns the single words that are functions of three packages or more.
func overloaded(where map[string][]string) []string {
	var words []string
	for name, places := range where {
		places = slices.Compact(slices.Sorted(slices.Values(places)))
		if oneWord(name) && len(places) >= 3 {
			words = append(words, name)
		}
	}
	slices.Sort(words)
	return words
}

// fileNames returns the names that files of three packages or more have, and how many.
func fileNames(loaded []*packages.Package) map[string]int {
	names := map[string]int{}
	for _, p := range loaded {
		for _, f := range p.Syntax {
			names[fileOf(p, f)]++
		}
	}
	for name, n := range names {
		if n < 3 || name == "doc.go" || name == "main.go" {
			delete(names, name)
		}
	}
	return names
}
