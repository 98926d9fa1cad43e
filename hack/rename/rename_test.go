package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tree is a module with what renames have to get right: an embedded type, an interface and a type that
// implements it, a package whose new name is that of variables, comments, a test and a text.
var tree = map[string]string{
	"go.mod": "module example.com/m\n\ngo 1.26\n",
	"pkg/sight/sight.go": `// Package sight is how nodes see each other.
package sight

// Core knows. See Core.turn.
type Core struct{ Now int }

// turn turns the Core.
func (c *Core) turn() int { return c.Now }

// Turner turns.
type Turner interface{ turn() int }

var _ Turner = &Core{}

// Outer has a Core.
type Outer struct{ *Core }

// Of returns it, see sight.Core.
func Of(o Outer) int { return o.Core.turn() }
`,
	"pkg/sight/sight_test.go":       "package sight_test\n\nimport (\n\t\"testing\"\n\n\t\"example.com/m/pkg/sight\"\n)\n\nfunc TestOf(t *testing.T) {\n\tif sight.Of(sight.Outer{Core: &sight.Core{Now: 1}}) != 1 {\n\t\tt.Fatal(\"the sight of it\")\n\t}\n}\n",
	"pkg/sight/testdata/a.txt":      "sight 3\n",
	"pkg/user/user.go":              "// Package user uses pkg/sight.\npackage user\n\nimport \"example.com/m/pkg/sight\"\n\n// Use says that failover is used.\nfunc Use(failover int) bool {\n\treturn sight.Of(sight.Outer{Core: &sight.Core{Now: failover}}) > 0\n}\n",
	"README.md":                     "The package is `pkg/sight`.\n",
	"hack/rename/testdata/keep.txt": "sight\n",
}

const renames = `package pkg/sight -> pkg/l2/failover
shadow pkg/sight: failover -> count
file pkg/sight/sight.go -> pkg/sight/node.go
text **/testdata/*.txt: sight -> failover
prose **/*.go: the sight of it -> the heartbeats of it
in pkg/sight
Core -> Node
Core.turn -> step
`

func write(t *testing.T, dir string, files map[string]string) {
	for name, content := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
}

func runIn(t *testing.T, dir string, args ...string) {
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%v: %s", args, out)
}

func tableOf(t *testing.T, text string) *table {
	name := filepath.Join(t.TempDir(), "table.txt")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	table, err := readTable(name)
	require.NoError(t, err)
	return table
}

func newTree(t *testing.T) string {
	dir := t.TempDir()
	write(t, dir, tree)
	runIn(t, dir, "git", "init", "-q")
	runIn(t, dir, "git", "add", "-A")
	runIn(t, dir, "git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "before")
	return dir
}

func TestRenames(t *testing.T) {
	dir := newTree(t)
	table := tableOf(t, renames)
	require.NoError(t, apply(dir, table, false))
	runIn(t, dir, "go", "vet", "./...")
	runIn(t, dir, "go", "test", "./...")

	node, err := os.ReadFile(filepath.Join(dir, "pkg/l2/failover/node.go"))
	require.NoError(t, err)
	want := strings.NewReplacer("Package sight", "Package failover", "package sight", "package failover", "sight.Core", "failover.Node", "Core.turn", "Node.step", "Core", "Node",
		"turn() int", "step() int", ".turn()", ".step()", "// turn turns", "// step turns").Replace(tree["pkg/sight/sight.go"])
	require.Equal(t, want, string(node))
	user, err := os.ReadFile(filepath.Join(dir, "pkg/user/user.go"))
	require.NoError(t, err)
	require.Equal(t, "// Package user uses pkg/l2/failover.\npackage user\n\nimport \"example.com/m/pkg/l2/failover\"\n\n// Use reports whether failover is used.\nfunc Use(count int) bool {\n\treturn failover.Of(failover.Outer{Node: &failover.Node{Now: count}}) > 0\n}\n", string(user))
	require.FileExists(t, filepath.Join(dir, "pkg/l2/failover/testdata/a.txt"))
	require.NoDirExists(t, filepath.Join(dir, "pkg/sight"))
	kept, err := os.ReadFile(filepath.Join(dir, "hack/rename/testdata/keep.txt"))
	require.NoError(t, err)
	require.Equal(t, "sight\n", string(kept), "the tool's own files keep the old names")

	require.NoError(t, verify(dir, "HEAD", table))
	write(t, dir, map[string]string{"pkg/l2/failover/testdata/a.txt": "failover 4\n"})
	require.EqualError(t, verify(dir, "HEAD", table), "1 files differ")
}

func TestAppliedAgainChangesNothing(t *testing.T) {
	dir := newTree(t)
	table := tableOf(t, renames)
	require.NoError(t, apply(dir, table, false))
	runIn(t, dir, "git", "add", "-A")
	require.EqualError(t, apply(dir, table, false), "7 rows match nothing; -lenient allows that")
	require.NoError(t, apply(dir, table, true))
	runIn(t, dir, "git", "diff", "--exit-code")
}

func TestCollisionsAreRefused(t *testing.T) {
	for name, test := range map[string]struct{ renames, message string }{
		"two objects of one package":  {"pkg/sight.Core -> Outer\n", "Core cannot become Outer"},
		"two members of one type":     {"pkg/sight.Core.turn -> Now\n", "of Core would both be Now"},
		"a variable inside a package": {"package pkg/sight -> pkg/failover\n", "sight cannot become failover: that is var"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newTree(t)
			require.ErrorContains(t, apply(dir, tableOf(t, test.renames), false), test.message)
			runIn(t, dir, "git", "diff", "--exit-code")
		})
	}
}

func TestBadTables(t *testing.T) {
	for text, message := range map[string]string{
		"pkg/a.B => C\n":                     `"pkg/a.B => C" is no row`,
		"pkg/a.B -> C\npkg/a.C -> D\n":       `"C" would be renamed again`,
		"pkg/a.B -> C\npkg/a.B -> D\n":       "has the same left side",
		"text **/*.md: plan -> node plan\n":  "the new text has the old one in it",
		"text docs/*.md: sight -> failover.": "",
	} {
		name := filepath.Join(t.TempDir(), "table.txt")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
		if _, err := readTable(name); message == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, message)
		}
	}
}
