package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/migrate"
)

// directory is where the program is; "" before it is built.
var directory string

// build makes the program once for all tests.
var build = sync.OnceValues(func() (string, error) {
	var err error
	if directory, err = os.MkdirTemp("", "kubectl-baremetal-"); err != nil {
		return "", err
	}
	path := filepath.Join(directory, "kubectl-baremetal")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", &buildError{string(out), err}
	}
	return path, nil
})

type buildError struct {
	output string
	cause  error
}

func (e *buildError) Error() string { return e.cause.Error() + "\n" + e.output }

func TestMain(m *testing.M) {
	status := m.Run()
	if directory != "" {
		_ = os.RemoveAll(directory)
	}
	os.Exit(status)
}

// outcome is what a run of the program left.
type outcome struct {
	stdout, stderr string
	status         int
}

// runProgram runs the built program with standard input.
func runProgram(t *testing.T, stdin string, arguments ...string) outcome {
	t.Helper()
	path, err := build()
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), path, arguments...)
	command.Stdin = strings.NewReader(stdin)
	command.Env = append(os.Environ(), "KUBECONFIG=/nonexistent", "HOME="+t.TempDir())
	var stdout, stderr strings.Builder
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
	}
	return outcome{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

const testdata = "../../pkg/migrate/testdata"

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(data)
}

// TestMigrateStatus: 0 if all is carried over, 3 if something is lost, 1 if something is not
// understood. Standard output is the cloud-config and nothing else.
func TestMigrateStatus(t *testing.T) {
	for _, test := range []struct {
		product, source string
		status          int
	}{
		{"metallb", "01-metallb-configmap-l2-cidr", 0},
		{"metallb", "02-metallb-configmap-bgp-minimal", 0},
		{"metallb", "04-metallb-configmap-four-pools", 0},
		{"metallb", "06-metallb-crs-node-selectors", 0},
		{"metallb", "07-metallb-crs-dual-stack", 0},
		{"metallb", "09-metallb-bfd-two-zones", 3},
		{"metallb", "11-metallb-per-node-asn", 0},
		{"metallb", "12-metallb-namespaces-and-labels", 0},
		{"metallb", "14-metallb-l2-and-bgp-one-pool", 3},
		{"kube-vip", "15-kube-vip-configmap", 3},
		{"openelb", "16-openelb-eip", 3},
		{"cilium", "17-cilium-pool-l2", 3},
		{"metallb", "19-metallb-vrf-unnumbered-dynamic", 3},
		{"purelb", "36-purelb-v1-and-v2", 3},
		{"purelb", "01-metallb-configmap-l2-cidr", 1},
		{"metallb", "17-cilium-pool-l2", 1},
	} {
		t.Run(test.product+" "+test.source, func(t *testing.T) {
			source := filepath.Join(testdata, test.source, "source.yaml")
			byFile := runProgram(t, "", "migrate", test.product, "-f", source)
			require.Equal(t, test.status, byFile.status, byFile.stderr)
			byInput := runProgram(t, read(t, source), "migrate", test.product, "-f", "-")
			require.Equal(t, byFile.stdout, byInput.stdout)
			require.Equal(t, test.status, byInput.status)
			require.Equal(t, test.status == 3, strings.Contains(byFile.stderr, "lost: "+source+":"))
			if test.status == 1 {
				require.Empty(t, byFile.stdout)
				require.Contains(t, byFile.stderr, "error: the configuration is not understood:\n"+source+":")
				return
			}
			golden := read(t, filepath.Join(testdata, test.source, "golden.yaml"))
			wanted, _, _ := strings.Cut(golden, "# ")
			require.Equal(t, wanted, byFile.stdout)
			checked := runProgram(t, byFile.stdout, "validate", "-")
			require.Zero(t, checked.status, checked.stderr)
		})
	}
}

// TestMigrateOutputs: -o, --plan and --annotations.
func TestMigrateOutputs(t *testing.T) {
	source := filepath.Join(testdata, "31-metallb-list-services", "source.yaml")
	script, plan := filepath.Join(t.TempDir(), "annotations.sh"), filepath.Join(t.TempDir(), "plan")
	plain := runProgram(t, "", "migrate", "metallb", "-f", source, "--annotations", script, "--plan")
	require.Equal(t, statusLost, plain.status)
	require.Contains(t, plain.stderr, "1. Decide on what is lost")
	require.NotContains(t, plain.stdout, "1. Decide")
	require.Equal(t, `# Annotations of Services, written by kubectl baremetal migrate. Run with: sh FILE
kubectl annotate --overwrite -n a service web baremetal.cloud/pool=first # from metallb.universe.tf/address-pool
kubectl annotate --overwrite -n a service web baremetal.cloud/addresses=192.0.2.1,2001:db8::1 # from metallb.io/loadBalancerIPs
kubectl annotate --overwrite -n a service web 'baremetal.cloud/sharing-key=it'\''s; $(rm -rf /) `+"`x`"+`' # from metallb.io/allow-shared-ip
`, read(t, script))
	printed, err := exec.CommandContext(t.Context(), "bash", "-c", "kubectl() { printf '%s\\n' \"$7\"; }\n. "+script).Output()
	require.NoError(t, err)
	require.Equal(t, "baremetal.cloud/pool=first\nbaremetal.cloud/addresses=192.0.2.1,2001:db8::1\nbaremetal.cloud/sharing-key=it's; $(rm -rf /) `x`\n", string(printed))

	planned := runProgram(t, "", "migrate", "metallb", "-f", source, "--plan="+plan, "-o", "json")
	require.Equal(t, statusLost, planned.status)
	require.Contains(t, read(t, plan), "kubectl -n metallb-system scale deployment/controller --replicas=0\n")
	var result migrate.Result
	require.NoError(t, json.Unmarshal([]byte(planned.stdout), &result))
	require.Equal(t, plain.stdout, result.CloudConfig)
	require.Len(t, result.Losses, strings.Count("\n"+plain.stderr, "\nlost: "))
	require.Len(t, result.Annotations, 3)
	require.Equal(t, "L2Advertisement metallb-system/gold", result.Losses[0].Object)

	asYAML := runProgram(t, "", "migrate", "metallb", "-f", source, "-o", "yaml")
	var document map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(asYAML.stdout), &document))
	require.Equal(t, plain.stdout, document["cloudConfig"])
}

// TestUsage: what cannot be run ends with status 1, the cause and nothing on standard output.
func TestUsage(t *testing.T) {
	for arguments, want := range map[string]string{
		"trouble":                                 `error: unknown command "trouble" for "kubectl baremetal"`,
		"migrate traefik":                         `error: "traefik" is not a product that can be read; write one of cilium, kube-vip, metallb, openelb, purelb`,
		"migrate metallb -f /nonexistent":         "error: open /nonexistent: no such file or directory",
		"migrate metallb -f - -o wide":            `error: invalid argument "wide" for "-o, --output" flag: write one of json, yaml`,
		"migrate metallb -f - extra":              `error: unknown command "extra" for "kubectl baremetal migrate metallb"`,
		"migrate metallb":                         "error: ",
		"validate":                                "error: accepts 1 arg(s), received 0",
		"validate /nonexistent":                   "error: the cloud-config is refused:\n/nonexistent: cannot be read: no such file or directory",
		"migrate metallb -f - --annotations /x/y": "error: ",
	} {
		got := runProgram(t, "", strings.Fields(arguments)...)
		require.Equal(t, statusError, got.status, arguments)
		require.Empty(t, got.stdout, arguments)
		require.Contains(t, got.stderr, want, arguments)
	}
}

// TestValidate: problems with position and status 1; warnings with status 0.
func TestValidate(t *testing.T) {
	head := "apiVersion: " + config.APIVersion + "\nkind: " + config.Kind + "\npools:\n- name: default\n"
	good := runProgram(t, head+"  addresses: [192.0.2.0/30]\n", "validate", "-")
	require.Equal(t, outcome{"-: ok, pools: 1\n  default: 4 addresses: 192.0.2.0-192.0.2.3\n", "", 0}, good)
	bad := runProgram(t, head+"  adresses: [192.0.2.0/30]\n", "validate", "-")
	require.Equal(t, statusError, bad.status)
	require.Equal(t, "error: the cloud-config is refused:\nstandard input:4:3: pools[0].addresses: is required\n"+
		"standard input:5:3: pools[0].adresses: unknown key; did you mean addresses?\n", bad.stderr)
	typo := runProgram(t, head+"  addresses: [192.68.1.1-192.168.1.255]\n", "validate", "-")
	require.Zero(t, typo.status)
	require.Equal(t, "warning: standard input:5:15: pools[0].addresses[0]: 192.68.1.1-192.168.1.255 has 6553855 addresses that are public: what is announced here is taken from its owner; give the range that is yours\n", typo.stderr)
}

// TestCompletion: products and words of flags are completed as in other plugins.
func TestCompletion(t *testing.T) {
	got := runProgram(t, "", "__complete", "migrate", "")
	require.Zero(t, got.status)
	for _, p := range migrate.Products() {
		require.Contains(t, got.stdout, string(p)+"\t")
	}
	require.Contains(t, runProgram(t, "", "__complete", "migrate", "metallb", "-o", "").stdout, "json\nyaml\n")
	require.Contains(t, runProgram(t, "", "completion", "bash").stdout, "bash completion")
}
