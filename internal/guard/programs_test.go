package guard

import (
	"bufio"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// everywhere are programs that need no declaration: every Debian has them, or README asks for them.
var everywhere = []string{"bash", "cat", "sh", "sleep", "tail", "go", "git"}

// TestProgramsAreDeclared holds that each program that Go code runs by its name stands in
// hack/programs, from which it is installed. A machine that has it by chance hides that it does not;
// what scripts run shows in `make fresh`.
func TestProgramsAreDeclared(t *testing.T) {
	declared := declaredPrograms(t)
	found := map[string]bool{}
	for _, s := range sources(t) {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			for _, name := range programsRun(n) {
				found[name] = true
				require.True(t, slices.Contains(everywhere, name) || declared[name],
					"%s runs %q, which hack/programs does not list", s.at(n), name)
			}
			return true
		})
	}
	for _, name := range []string{"ip", "ping", "curl", "vtysh"} {
		require.True(t, found[name], "%s is run somewhere; the guard does not see it", name)
	}
}

// declaredPrograms returns the second column of hack/programs.
func declaredPrograms(t *testing.T) map[string]bool {
	f, err := os.Open(filepath.Join(root, "hack", "programs"))
	require.NoError(t, err)
	defer f.Close()
	declared := map[string]bool{}
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		require.GreaterOrEqual(t, len(fields), 3, "hack/programs: %q", scanner.Text())
		require.False(t, declared[fields[1]], "hack/programs lists %s twice", fields[1])
		declared[fields[1]] = true
	}
	require.NoError(t, scanner.Err())
	return declared
}

// programsRun returns the names of programs that the call n runs, where they are literals.
func programsRun(n ast.Node) []string {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil
	}
	fun, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	left, _ := selector(fun)
	switch {
	case left == "exec" && fun.Sel.Name == "Command", left == "exec" && fun.Sel.Name == "LookPath":
		return literal(call.Args, 0)
	case left == "exec" && fun.Sel.Name == "CommandContext":
		return append(literal(call.Args, 1), inNamespace(call.Args)...)
	case fun.Sel.Name == "in": // of a pair of network namespaces: (namespace, command...)
		return literal(call.Args, 1)
	case fun.Sel.Name == "In": // of a testbed's Cluster: (ctx, host, command...)
		return literal(call.Args, 2)
	}
	return nil
}

// inNamespace returns the program of `ip netns exec NAME PROGRAM`.
func inNamespace(args []ast.Expr) []string {
	if words := literal(args, 3); len(args) > 5 && len(words) == 1 && words[0] == "exec" {
		return literal(args, 5)
	}
	return nil
}

// literal returns the string literal args[i] that is no path and no flag.
func literal(args []ast.Expr, i int) []string {
	if i >= len(args) {
		return nil
	}
	basic, ok := args[i].(*ast.BasicLit)
	if !ok || basic.Kind != token.STRING {
		return nil
	}
	text, _ := strconv.Unquote(basic.Value) // the parser accepted it
	if strings.ContainsAny(text, "/ ") || text == "" {
		return nil
	}
	return []string{text}
}
