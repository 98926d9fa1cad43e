package guard

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// instruction is one of a Dockerfile, with its continuation lines joined.
type instruction struct{ name, args string }

func dockerfile(t *testing.T) []instruction {
	t.Helper()
	text := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(read(t, "Dockerfile"), "")
	text = strings.ReplaceAll(text, "\\\n", " ")
	known := []string{"FROM", "WORKDIR", "COPY", "RUN", "ARG", "ENTRYPOINT", "USER"}
	var all []instruction
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, args, _ := strings.Cut(line, " ")
		require.Contains(t, known, name, line)
		all = append(all, instruction{name, strings.TrimSpace(args)})
	}
	return all
}

// Where there is no image builder, this much can be said of the Dockerfile: its targets
// are the programs, what it copies exists, and every stage ends as the manifests expect.
func TestDockerfile(t *testing.T) {
	stages := map[string][]instruction{}
	stage := ""
	for _, i := range dockerfile(t) {
		if i.name == "FROM" {
			words := strings.Fields(i.args)
			require.GreaterOrEqual(t, len(words), 3)
			require.Equal(t, "AS", words[len(words)-2], "a stage without a name")
			stage = words[len(words)-1]
		}
		stages[stage] = append(stages[stage], i)
	}
	for name, pod := range pods(t) {
		require.Equal(t, name, pod.Containers[0].Image)
		require.Contains(t, stages[name], instruction{"ENTRYPOINT", `["/` + name + `"]`})
		require.Contains(t, stages[name][0].args, "distroless/static")
		require.Contains(t, stages[name], instruction{"COPY", "--from=build /out/" + name + " /" + name})
	}
	require.Contains(t, stages["baremetal-ccm"], instruction{"USER", "65532:65532"})
	for _, i := range stages["build"] {
		if i.name != "COPY" {
			continue
		}
		words := strings.Fields(i.args)
		for _, source := range words[:len(words)-1] {
			_, err := os.Stat(filepath.Join(root, source))
			require.NoError(t, err)
		}
	}
}

// The stage that builds has a Go that go.mod accepts, and every package of the module that
// the programs link.
func TestDockerfileBuildsWithTheRightGo(t *testing.T) {
	goLine := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	require.NotNil(t, goLine)
	all := dockerfile(t)
	image := regexp.MustCompile(`golang:(\S+)`).FindStringSubmatch(all[0].args)
	require.NotNil(t, image)
	require.Regexp(t, "^"+regexp.QuoteMeta(goLine[1])+`\.\d+$`, image[1], "a patch version: advisories are fixed by patches")
	require.Contains(t, read(t, "docs/security.md"), "images are built with Go "+image[1]+",")
	var copied []string
	for _, i := range all {
		if i.name == "COPY" {
			copied = append(copied, strings.Fields(i.args)[0])
		}
	}
	for _, path := range strings.Fields(command(t, "go", "list", "-deps", "./cmd/...")) {
		if local, ok := strings.CutPrefix(path, module+"/"); ok {
			top, _, _ := strings.Cut(local, "/")
			require.True(t, slices.Contains(copied, top), "the Dockerfile does not copy %s", local)
		}
	}
}
