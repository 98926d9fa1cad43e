package reason

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// declared returns the value of every constant of type Reason, in order.
func declared(t *testing.T) []Reason {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	require.NoError(t, err)
	var reasons []Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		kind, ok := spec.Type.(*ast.Ident)
		require.True(t, ok && kind.Name == "Reason", "%s is not a Reason", spec.Names[0].Name)
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		require.Equal(t, spec.Names[0].Name, value, "a Reason's name is its value")
		reasons = append(reasons, Reason(value))
		return true
	})
	return reasons
}

func TestTableHasEveryReasonInOrder(t *testing.T) {
	want := declared(t)
	require.NotEmpty(t, want)
	var got []Reason
	for _, e := range Table() {
		got = append(got, e.Reason)
	}
	require.Equal(t, want, got)
}

func TestEntriesAreSentences(t *testing.T) {
	for _, e := range Table() {
		require.Contains(t, []Scope{ScopeAllocated, ScopeAnnounced, ScopeNode}, e.Scope)
		for _, s := range []string{e.Meaning, e.Cure} {
			if s == "" {
				continue
			}
			require.True(t, unicode.IsUpper(rune(s[0])), s)
			require.True(t, strings.HasSuffix(s, "."), s)
			require.NotContains(t, s, "\n")
			require.NotContains(t, s, "|", "it goes into a table")
		}
		require.NotEmpty(t, e.Meaning)
	}
}

// docs/reasons.md is what hack/reasons prints.
func TestDocsAreCurrent(t *testing.T) {
	data, err := os.ReadFile("../../docs/reasons.md")
	require.NoError(t, err)
	require.Equal(t, Markdown(), string(data), "run make generate")
}
