package guard

import (
	"go/ast"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/reason"
)

// snippet is a fenced block of a Markdown file.
type snippet struct {
	file           string
	line           int // of the first line inside
	language, text string
}

func snippets(t *testing.T, file string) []snippet {
	t.Helper()
	var all []snippet
	var open *snippet
	indent := 0 // of the fence, as in a list
	for i, line := range strings.Split(read(t, file), "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimLeft(line, " "), "```")
		switch {
		case isFence && open == nil:
			indent = len(line) - len(strings.TrimLeft(line, " "))
			open = &snippet{file: file, line: i + 2, language: fence}
		case isFence:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += line[min(indent, len(line)):] + "\n"
		}
	}
	require.Nil(t, open, "%s: a fence is not closed", file)
	return all
}

func TestSnippets(t *testing.T) {
	for _, file := range files(t, ".md") {
		for _, s := range snippets(t, file) {
			switch s.language {
			case "yaml":
				checkYAML(t, s)
			case "sh":
				cmd := exec.CommandContext(t.Context(), "bash", "-n")
				cmd.Stdin = strings.NewReader(s.text)
				out, err := cmd.CombinedOutput()
				assert.NoError(t, err, "%s:%d: %s", s.file, s.line, out)
			case "text": // a picture, or what a program prints
			default:
				assert.Fail(t, "a snippet must be yaml, sh or text", "%s:%d: %q", s.file, s.line, s.language)
			}
		}
	}
}

// checkYAML reads a snippet as what it is: a cloud-config, Kubernetes objects, or a part
// of a cloud-config, which is completed first.
func checkYAML(t *testing.T, s snippet) {
	t.Helper()
	var top map[string]any
	require.NoError(t, yaml.NewDecoder(strings.NewReader(s.text)).Decode(&top), "%s:%d", s.file, s.line)
	text := s.text
	switch {
	case top["kind"] == nil && (top["pools"] != nil || top["reservations"] != nil):
		text = "apiVersion: " + config.APIVersion + "\nkind: " + config.Kind + "\n" + text
	case top["kind"] == nil && top["config"] != nil: // values of the chart
		data, err := yaml.Marshal(top["config"])
		require.NoError(t, err)
		text = "apiVersion: " + config.APIVersion + "\nkind: " + config.Kind + "\n" + string(data)
	case top["kind"] != config.Kind && top["apiVersion"] == "kustomize.config.k8s.io/v1beta1":
		return // kubectl's own, no API object; hack/verify renders those of deploy/
	case top["kind"] != config.Kind:
		require.NotEmpty(t, decode(t, s.file, text))
		return
	}
	_, warnings, err := config.Parse([]byte(text), s.file)
	assert.NoError(t, err, "%s:%d", s.file, s.line)
	assert.Empty(t, warnings, "%s:%d", s.file, s.line)
}

func TestExampleConfigs(t *testing.T) {
	for _, file := range []string{"deploy/example/cloud-config.yaml", "docs/reference.yaml"} {
		_, warnings, err := config.Load(filepath.Join(root, file))
		require.NoError(t, err)
		require.Empty(t, warnings)
	}
}

var link = regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`)

func TestLinks(t *testing.T) {
	for _, file := range files(t, ".md") {
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := file
			if m[1] != "" {
				target = path.Join(path.Dir(file), m[1])
			}
			_, err := os.Stat(filepath.Join(root, target))
			assert.NoError(t, err, "%s links to %s", file, m[1])
			if m[2] != "" && err == nil {
				assert.Contains(t, anchors(t, target), m[2], "%s links to a heading of %s", file, target)
			}
		}
	}
}

var heading = regexp.MustCompile(`(?m)^#+ (.*)$`)

// anchors returns those that the headings of a Markdown file get.
func anchors(t *testing.T, file string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(read(t, file), -1) {
		text := strings.ToLower(link.ReplaceAllString(m[1], "]"))
		text = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(text, "")
		all = append(all, strings.ReplaceAll(text, " ", "-"))
	}
	return all
}

// README is short and leads to every page.
func TestReadmeLeadsToEveryPage(t *testing.T) {
	readme := read(t, "README.md")
	assert.LessOrEqual(t, strings.Count(readme, "\n"), 120)
	for _, file := range files(t, ".md") {
		if strings.HasPrefix(file, "docs/") {
			assert.Contains(t, readme, "("+file+")")
		}
	}
}

var makeCommand = regexp.MustCompile("(?:`|^|\\s)make ([a-z][a-z0-9-]*)")

// Every `make TARGET` that the documents tell people to run is there.
func TestMakeTargets(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, file := range files(t, ".md") {
		for _, m := range makeCommand.FindAllStringSubmatch(codeOf(read(t, file)), -1) {
			target := regexp.MustCompile(`(?m)^([a-z0-9 -]+ )?` + regexp.QuoteMeta(m[1]) + `( [a-z0-9 -]+)?:`)
			assert.True(t, target.MatchString(makefile), "%s tells to run make %s", file, m[1])
		}
	}
}

var code = regexp.MustCompile("(?s)```.*?```|`[^`\n]+`")

// codeOf returns what stands between backquotes: in prose "make" is a word like others.
func codeOf(markdown string) string { return strings.Join(code.FindAllString(markdown, -1), "\n") }

// Where the documents quote a path of the repository, it exists.
func TestPathsInDocs(t *testing.T) {
	quoted := regexp.MustCompile("`((?:pkg|cmd|deploy|docs|hack|internal|test)/[A-Za-z0-9_./-]+)`")
	for _, file := range files(t, ".md") {
		if file == "CHANGELOG.md" {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(read(t, file), -1) {
			_, err := os.Stat(filepath.Join(root, m[1]))
			assert.NoError(t, err, "%s mentions %s", file, m[1])
		}
	}
}

// Every reason against a Service is found from its symptom.
func TestReasonsBySymptom(t *testing.T) {
	text := read(t, "docs/troubleshooting.md")
	for _, e := range reason.Table() {
		if e.Cure != "" && e.Scope != reason.ScopeNode {
			assert.Contains(t, text, "`"+string(e.Reason)+"`")
		}
	}
}

// TestBoundsHaveTheirTests: each test that docs/security.md names is there.
func TestBoundsHaveTheirTests(t *testing.T) {
	tests := map[string]bool{}
	for _, s := range sources(t) {
		for _, declaration := range s.syntax.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && s.test {
				tests[f.Name.Name] = true
			}
		}
	}
	for _, name := range regexp.MustCompile(`\bTest[A-Z]\w*`).FindAllString(read(t, "docs/security.md"), -1) {
		assert.True(t, tests[name], "docs/security.md names %s, which does not exist", name)
	}
}

// treeLine is a line of the tree in docs/architecture.md: one directory, or some of one kind.
var treeLine = regexp.MustCompile(`^( *)((?:[a-z0-9-]+/)+(?:  (?:[a-z0-9-]+/)+)*) `)

// The tree of docs/architecture.md names every package of the product, and no other.
func TestTreeIsTrue(t *testing.T) {
	_, text, _ := strings.Cut(read(t, "docs/architecture.md"), "```text\ncmd/baremetal-ccm/ ")
	text, _, _ = strings.Cut("cmd/baremetal-ccm/ "+text, "```")
	listed, parent := map[string]bool{}, ""
	for line := range strings.Lines(text) {
		m := treeLine.FindStringSubmatch(line)
		require.NotNil(t, m, "docs/architecture.md: %q is no line of the tree", line)
		for _, dir := range strings.Fields(m[2]) {
			if m[1] == "" {
				parent = dir
			} else {
				dir = parent + dir
			}
			listed[strings.TrimSuffix(dir, "/")] = true
		}
	}
	there := map[string]bool{"internal/guard": true, "pkg/announcer/internal": true}
	for _, s := range sources(t) {
		if !s.test && (under(s.dir, "pkg") || under(s.dir, "cmd")) && !strings.Contains(s.dir, "/internal/") && !s.made {
			there[s.dir] = true
			assert.True(t, listed[s.dir], "docs/architecture.md does not have %s", s.dir)
		}
	}
	for dir := range listed {
		assert.True(t, there[dir], "docs/architecture.md has %s, which is no package", dir)
	}
}

// stepOf is a line of a way through the code: "1. `cloud.Type.method`: what happens", below pkg.
var stepOf = regexp.MustCompile("^[0-9]+\\. `([a-z0-9/]+)\\.(?:([A-Za-z]+)\\.)?([A-Za-z]+)`: ")

// The ways through the code name functions that exist.
func TestWaysThroughTheCode(t *testing.T) {
	_, rest, found := strings.Cut(read(t, "docs/architecture.md"), "\n## Three ways through the code\n")
	require.True(t, found)
	text, _, _ := strings.Cut(rest, "\n## ")
	declared := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && !s.test {
				declared[s.dir+"."+receiverOf(f)+f.Name.Name] = true
			}
		}
	}
	ways := 0
	for line := range strings.Lines(text) {
		if line[0] < '0' || line[0] > '9' {
			continue
		}
		step := stepOf.FindStringSubmatch(line)
		require.NotNil(t, step, line)
		if strings.HasPrefix(line, "1. ") {
			ways++
		}
		name := "pkg/" + step[1] + "."
		if step[2] != "" {
			name += step[2] + "."
		}
		name += step[3]
		assert.True(t, declared[name], "%s does not exist", name)
	}
	require.Equal(t, 3, ways)
}

// receiverOf returns "Type." of a method, and nothing of a function.
func receiverOf(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	kind := f.Recv.List[0].Type
	if star, ok := kind.(*ast.StarExpr); ok {
		kind = star.X
	}
	if generic, ok := kind.(*ast.IndexExpr); ok {
		kind = generic.X
	}
	name, ok := kind.(*ast.Ident)
	if !ok {
		return ""
	}
	return name.Name + "."
}
