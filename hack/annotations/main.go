// Annotations prints docs/annotations.md from the constants in pkg/cloud/names.go and
// their comments; make generate runs it.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"strconv"
	"strings"
)

const source = "pkg/cloud/names.go"

func main() {
	if err := write(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "annotations:", err)
		os.Exit(1)
	}
}

func write(w io.Writer) error {
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	fmt.Fprint(w, `# Annotations and conditions of a Service

Generated from `+source+`; `+"`make generate`"+` writes it anew.

`)
	table(w, "Annotation", constants(file, "Annotation"))
	fmt.Fprintln(w)
	table(w, "Condition", constants(file, "Condition"))
	fmt.Fprintln(w, "\nWhat the reasons of the conditions mean, and what to do, is in [reasons.md](reasons.md).")
	return nil
}

// row is a constant's value and its comment.
type row struct{ value, meaning string }

// constants returns the constants whose name begins with prefix, in their order.
func constants(file *ast.File, prefix string) []row {
	var out []row
	for _, declaration := range file.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			c, ok := spec.(*ast.ValueSpec)
			if !ok || !strings.HasPrefix(c.Names[0].Name, prefix) {
				continue
			}
			literal, ok := c.Values[0].(*ast.BasicLit)
			if !ok {
				continue
			}
			value, err := strconv.Unquote(literal.Value)
			if err != nil {
				continue
			}
			meaning := strings.Join(strings.Fields(c.Doc.Text()), " ")
			out = append(out, row{value, strings.TrimPrefix(meaning, c.Names[0].Name+" ")})
		}
	}
	return out
}

func table(w io.Writer, heading string, rows []row) {
	fmt.Fprintf(w, "| %s | What it does |\n|---|---|\n", heading)
	for _, r := range rows {
		fmt.Fprintf(w, "| `%s` | %s |\n", r.value, r.meaning)
	}
}
