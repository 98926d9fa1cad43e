package measure

import (
	"go/ast"
	"regexp"
	"strings"

	"golang.org/x/tools/go/packages"
)

// fieldWords are words of this field that a reader looks for.
var fieldWords = []string{"failover", "heartbeat", "reconcile", "delta"}

// oddWords are expressions of comments that plain English has simpler ones for.
var oddWords = []struct {
	name string
	find *regexp.Regexp
}{
	{`"says that"`, regexp.MustCompile(`(?i)\bsays that\b`)},
	{"nobody, anybody", regexp.MustCompile(`(?i)\b(no ?body|any ?body|some ?body|no one|any ?one|some ?one)\b`)},
	{"who(ever)", regexp.MustCompile(`(?i)\b(who|whoever)\b`)},
}

// comments returns the text of all comments, without the marks of tools.
func comments(loaded []*packages.Package) string {
	var b strings.Builder
	for _, p := range loaded {
		for _, f := range p.Syntax {
			for _, group := range f.Comments {
				b.WriteString(group.Text())
			}
		}
	}
	return b.String()
}

// identifiers counts how often a word stands in the code and comments of the product, as a word
// or a part of a name, without imports' paths.
func identifiers(loaded []*packages.Package, word string) int {
	n := 0
	for _, p := range loaded {
		for _, f := range p.Syntax {
			ast.Inspect(f, func(node ast.Node) bool {
				switch node := node.(type) {
				case *ast.ImportSpec:
					return false
				case *ast.Ident:
					n += count(node.Name, word)
				case *ast.BasicLit:
					n += count(node.Value, word)
				}
				return true
			})
			for _, group := range f.Comments {
				n += count(group.Text(), word)
			}
		}
	}
	return n
}

func count(text, word string) int { return strings.Count(strings.ToLower(text), word) }
