package guard

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// goMod is the part of `go mod edit -json` that is read here.
type goMod struct {
	Require []struct{ Path string }
	Tool    []struct{ Path string }
}

// Every module that the code imports, and every tool, has its reason in
// docs/dependencies.md; and nothing stands there that is not used any more.
func TestDependenciesAreJustified(t *testing.T) {
	var mod goMod
	require.NoError(t, json.Unmarshal([]byte(command(t, "go", "mod", "edit", "-json")), &mod))
	used := map[string]bool{}
	use := func(path string) {
		if m := moduleOf(mod, path); m != "" {
			used[m] = true
		}
	}
	for _, s := range sources(t) {
		for _, path := range s.imports() {
			use(path)
		}
	}
	for _, tool := range mod.Tool {
		use(tool.Path)
	}

	listed := map[string]bool{}
	for line := range strings.Lines(read(t, "docs/dependencies.md")) {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ = strings.Cut(name, "`")
			listed[name] = true
		}
	}
	for m := range used {
		assert.True(t, listed[m], "docs/dependencies.md does not say why %s is needed", m)
	}
	for m := range listed {
		assert.True(t, used[m], "docs/dependencies.md lists %s, which nothing uses", m)
	}
}

// moduleOf returns the required module that path belongs to, or "".
func moduleOf(mod goMod, path string) string {
	best := ""
	for _, r := range mod.Require {
		if under(path, r.Path) && len(r.Path) > len(best) {
			best = r.Path
		}
	}
	return best
}

// The tools that lint and generate are pinned in go.mod, where everybody gets the same.
func TestToolsArePinned(t *testing.T) {
	var mod goMod
	require.NoError(t, json.Unmarshal([]byte(command(t, "go", "mod", "edit", "-json")), &mod))
	var tools []string
	for _, tool := range mod.Tool {
		tools = append(tools, tool.Path)
	}
	slices.Sort(tools)
	require.Equal(t, []string{
		"google.golang.org/grpc/cmd/protoc-gen-go-grpc",
		"google.golang.org/protobuf/cmd/protoc-gen-go",
		"honnef.co/go/tools/cmd/staticcheck",
	}, tools)
}
