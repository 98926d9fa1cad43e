// Package scenarios gives tests scenarios that are text files: commands, and what they print.
package scenarios

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write the output of the scenarios into testdata instead of comparing it")

// Run plays each file of testdata/*.txt as a subtest, and wants play to return it as it is:
// the commands with the output that they have now. With the flag -rewrite the file becomes
// what play returns.
func Run(t *testing.T, play func(t testing.TB, text string) string) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			got := play(t, string(text))
			if *rewrite {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			require.Equal(t, string(text), got)
		})
	}
}
