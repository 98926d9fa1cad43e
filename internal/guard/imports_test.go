package guard

import (
	"go/ast"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pure are the packages without clock, socket, goroutine, lock or logger, and what each
// may import of this module. Time and randomness come in as arguments.
var pure = map[string][]string{
	"pkg/reason":                          nil,
	"pkg/announcer/plan":                  {"pkg/reason"},
	"pkg/announcer/bfd/protocol":          nil,
	"pkg/announcer/internal/addressqueue": nil,
	"pkg/announcer/internal/timerqueue":   nil,
	"pkg/ipam":                            {"pkg/reason"},
	"pkg/loadbalancer":                    {"pkg/ipam", "pkg/announcer/plan", "pkg/reason"},
	"pkg/migrate":                         {"pkg/ipam", "pkg/cloud/config"},
}

// pureModules are the packages of other modules that a pure package may import: they turn bytes into
// values, and do nothing else.
var pureModules = map[string][]string{
	"pkg/migrate": {"gopkg.in/yaml.v3"},
}

// pureFiles are decisions in packages that have sockets, clocks or Kubernetes beside them: files, by the
// package's directory. They are pure like the packages above. What they import of this module lends them
// types and pure functions.
var pureFiles = map[string][]string{
	"pkg/announcer/failover": {
		"election.go", "reconcile.go", "node.go", "peer.go", "standing.go", "claimset.go", "claimwait.go", "claimproof.go",
		"peerannounced.go", "destinations.go", "packet.go",
	},
	"pkg/announcer": {
		"state.go", "options.go", "apply.go", "conflicts.go", "claimants.go", "schedule.go", "frames.go", "routegate.go",
		"persistedplan.go", "nodehealth.go", "batchsize.go", "causes.go", "ports.go",
	},
	"pkg/announcer/bgp":         {"desired.go", "path.go", "resolve.go"},
	"pkg/announcer/netstate":    {"snapshot.go"},
	"pkg/announcer/proxyhealth": {"checkstate.go"},
	"pkg/cloud":                 {"ownerhistory.go"},
}

// impure are the standard packages that a pure one has no use for.
var impure = []string{"context", "log", "math/rand", "os", "runtime", "sync", "syscall", "testing", "unsafe", "crypto/rand", "net/http"}

// impureNames are what a pure package must not use of the packages that it may import.
var impureNames = map[string][]string{
	"time": {"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"},
	"net":  {"Dial", "DialTimeout", "Dialer", "Listen", "ListenPacket", "ListenConfig", "Interfaces", "InterfaceByName", "InterfaceAddrs", "LookupHost", "LookupIP", "Resolver"},
}

func TestPurePackages(t *testing.T) {
	for _, s := range sources(t) {
		own, isPure := pure[s.dir]
		if !isPure || s.test {
			continue
		}
		for _, path := range s.imports() {
			if local, ok := strings.CutPrefix(path, module+"/"); ok {
				assert.Contains(t, own, local, "%s imports %s", s.path, path)
				continue
			}
			if slices.Contains(pureModules[s.dir], path) {
				continue
			}
			assert.NotContains(t, strings.Split(path, "/")[0], ".", "%s imports %s: only the standard library is pure", s.path, path)
		}
		assertPure(t, s)
	}
}

// assertPure checks what a pure file does, apart from what it imports of this module.
func assertPure(t *testing.T, s source) {
	for _, path := range s.imports() {
		for _, forbidden := range impure {
			assert.False(t, under(path, forbidden), "%s imports %s", s.path, path)
		}
	}
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			assert.Fail(t, "goroutine in a pure file", s.at(n))
		case *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
			assert.Fail(t, "channel in a pure file", s.at(n))
		}
		left, right := selector(n)
		assert.False(t, slices.Contains(impureNames[left], right), "%s uses %s.%s", s.path, left, right)
		return true
	})
}

// The decisions that stand beside sockets are as pure as those that have a package of their own: the rule
// by which nodes elect the owner of an address first.
func TestPureFiles(t *testing.T) {
	found := map[string]bool{}
	for _, s := range sources(t) {
		name := filepath.Base(s.path)
		if !slices.Contains(pureFiles[s.dir], name) {
			continue
		}
		found[s.dir+"/"+name] = true
		assertPure(t, s)
		for _, path := range s.imports() {
			_, own := strings.CutPrefix(path, module+"/")
			assert.True(t, own || !strings.Contains(strings.Split(path, "/")[0], "."), "%s imports %s: only the standard library is pure", s.path, path)
		}
	}
	for dir, names := range pureFiles {
		for _, name := range names {
			assert.True(t, found[dir+"/"+name], "%s has no file %s", dir, name)
		}
	}
}

// Only the cluster side and the administrator's plugin know Kubernetes. These tests do too, to check the manifests.
func TestKubernetesStaysOnItsSide(t *testing.T) {
	allowed := []string{"pkg/cloud", "cmd/baremetal-ccm", "cmd/kubectl-baremetal", "test/e2e", "test/bench", "internal/guard"}
	for _, s := range sources(t) {
		for _, path := range s.imports() {
			if !isKubernetes(path) {
				continue
			}
			assert.True(t, slices.ContainsFunc(allowed, func(dir string) bool { return under(s.dir, dir) }), "%s imports %s", s.path, path)
		}
	}
}

// The two sides meet in the control channel only: a node's packages know nothing of the
// cluster's.
func TestAnnouncerKnowsNothingOfTheCluster(t *testing.T) {
	for _, s := range sources(t) {
		if !under(s.dir, "pkg/announcer") && !under(s.dir, "cmd/baremetal-announcer") {
			continue
		}
		for _, path := range s.imports() {
			for _, dir := range []string{"pkg/cloud", "pkg/ipam", "pkg/loadbalancer", "pkg/migrate"} {
				assert.False(t, under(path, module+"/"+dir), "%s imports %s", s.path, path)
			}
		}
	}
}

// The plugin is for administrators: no program of the cluster imports what it is made of.
func TestPluginStandsAlone(t *testing.T) {
	for _, s := range sources(t) {
		if under(s.dir, "pkg/migrate") || under(s.dir, "cmd/kubectl-baremetal") || s.test {
			continue
		}
		for _, path := range s.imports() {
			assert.False(t, under(path, module+"/pkg/migrate") || under(path, "k8s.io/cli-runtime"), "%s imports %s", s.path, path)
		}
	}
}

// BFD serves whoever asks: it knows neither BGP nor anything else of ours.
func TestBFDStandsAlone(t *testing.T) {
	const dir = "pkg/announcer/bfd"
	for _, s := range sources(t) {
		if !under(s.dir, dir) || s.test {
			continue
		}
		for _, path := range s.imports() {
			if local, ok := strings.CutPrefix(path, module+"/"); ok {
				assert.True(t, under(local, dir), "%s imports %s", s.path, path)
			}
			assert.NotContains(t, path, "gobgp", s.path)
		}
	}
}

// What is linked into the announcer, whoever imports it.
func TestAnnouncerLinksNoKubernetes(t *testing.T) {
	for _, path := range strings.Fields(command(t, "go", "list", "-deps", "./cmd/baremetal-announcer", "./pkg/announcer/...")) {
		assert.False(t, isKubernetes(path), "the announcer links %s", path)
	}
}

func isKubernetes(path string) bool {
	host, _, _ := strings.Cut(path, "/")
	return host == "k8s.io" || host == "sigs.k8s.io"
}

// command runs a program at the top of the repository and returns its standard output.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s %s\n%s", name, strings.Join(args, " "), stderr.String())
	return string(out)
}
