package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	appconfig "k8s.io/cloud-provider/app/config"
	fakecloud "k8s.io/cloud-provider/fake"
	"k8s.io/cloud-provider/names"
	genericcontrollermanager "k8s.io/controller-manager/app"
	"k8s.io/controller-manager/controller"
)

const goodConfig = `apiVersion: baremetal.cloud/v1alpha1
kind: CloudConfig
pools:
- name: default
  addresses: [192.0.2.0/28]
- name: second
  addresses: [198.51.100.7, "2001:db8::1-2001:db8::ff"]
`

// execute runs the command with arguments and returns what it printed and its error.
func execute(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	command, err := newCommand(t.Context())
	require.NoError(t, err)
	var out bytes.Buffer
	command.SetOut(&out)
	command.SetErr(&out)
	command.SilenceErrors = true
	command.SetArgs(arguments)
	err = command.Execute()
	return out.String(), err
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cloud-config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// kubeconfig returns a file that points to an API server at url.
func kubeconfig(t *testing.T, url string) string {
	t.Helper()
	return write(t, `{apiVersion: v1, kind: Config, current-context: c,
contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}],
clusters: [{name: c, cluster: {server: "`+url+`"}}]}`)
}

func TestVersion(t *testing.T) {
	t.Cleanup(func() { // component-base has one such flag per process
		flag := pflag.Lookup("version")
		require.NoError(t, flag.Value.Set("false"))
		flag.Changed = false
	})
	out, err := execute(t, "--version")
	require.NoError(t, err)
	require.Regexp(t, `^baremetal-ccm \S+ go1\.\d+`, out)
}

func TestValidateConfig(t *testing.T) {
	path := write(t, goodConfig)
	out, err := execute(t, "--validate-config", path)
	require.NoError(t, err)
	require.Equal(t, path+": ok, 2 pools\n"+
		"  default: 16 addresses: 192.0.2.0-192.0.2.15\n"+
		"  second: 256 addresses: 198.51.100.7, 2001:db8::1-2001:db8::ff\n", out)

	bad := write(t, goodConfig+"- {name: third, addresses: [192.0.2.9]}\n- {name: third}\n")
	_, err = execute(t, "--validate-config", bad)
	require.ErrorContains(t, err, bad+":8:")
	require.ErrorContains(t, err, bad+":9:", "all problems at once")
	require.ErrorContains(t, err, "\n    - {name: third, addresses: [192.0.2.9]}\n                                ^\n", "the line's own text, and a caret")

	_, err = execute(t, "--validate-config", filepath.Join(t.TempDir(), "none"))
	require.ErrorContains(t, err, "cannot be read")
}

// A warning does not make a cloud-config bad.
func TestValidateConfigWarns(t *testing.T) {
	path := write(t, strings.ReplaceAll(goodConfig, "192.0.2.0/28", "8.0.0.0/8"))
	out, err := execute(t, "--validate-config", path)
	require.NoError(t, err)
	require.Contains(t, out, "warning: "+path+":5:15: pools[0].addresses[0]: 8.0.0.0/8 has 16777216 addresses that are public")
	require.Contains(t, out, "\n      addresses: [8.0.0.0/8]\n                  ^\n")
	require.Contains(t, out, path+": ok, 2 pools")
}

func TestValidateConfigFromStandardInput(t *testing.T) {
	for text, want := range map[string]string{goodConfig: "", goodConfig + "pool: []\n": "stdin:8:1: pool: unknown key; did you mean pools?\n    pool: []\n    ^"} {
		command, err := newCommand(t.Context())
		require.NoError(t, err)
		var out bytes.Buffer
		command.SetOut(&out)
		command.SetErr(&out)
		command.SetIn(strings.NewReader(text))
		command.SilenceErrors = true
		command.SetArgs([]string{"--validate-config=-"})
		err = command.Execute()
		if want != "" {
			require.ErrorContains(t, err, want)
			continue
		}
		require.NoError(t, err)
		require.Contains(t, out.String(), "stdin: ok, 2 pools\n")
	}
}

// With --kubeconfig a cluster is looked at, and nothing is written there.
func TestValidateConfigAgainstACluster(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, http.MethodGet, r.Method)
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/api/v1/nodes" {
			_, _ = w.Write([]byte(`{"kind": "NodeList", "apiVersion": "v1", "items": [{"metadata": {"name": "node1"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.3"}]}}]}`))
			return
		}
		_, _ = w.Write([]byte(`{"kind": "List", "apiVersion": "v1", "items": []}`))
	}))
	path := write(t, goodConfig)
	out, err := execute(t, "--validate-config="+path, "--kubeconfig="+kubeconfig(t, server.URL))
	require.NoError(t, err)
	require.Contains(t, out, "warning: pool \"default\" contains 192.0.2.3, which is an address of node node1; take it out of the pool\n"+path+": ok")
	server.Close()
	_, err = execute(t, "--validate-config="+path, "--kubeconfig="+kubeconfig(t, server.URL))
	require.ErrorContains(t, err, "the cloud-config is good by itself, but could not be compared with the cluster")
}

// A first start with a cloud-config that cannot be used, and no last good one, names the
// file, and the line where there is one.
func TestFirstStartWithBadConfig(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	wrong := write(t, "apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\npool: []\n")
	empty := write(t, "")
	missing := filepath.Join(t.TempDir(), "none.yaml")
	for path, want := range map[string]string{
		wrong:   wrong + ":3:1: ",
		empty:   empty + ": is empty",
		missing: missing + ": cannot be read",
		"":      "--cloud-config: no file was given",
	} {
		out, err := execute(t, "--cloud-config="+path, "--kubeconfig="+kubeconfig(t, server.URL))
		require.ErrorContains(t, err, want)
		require.NotContains(t, out, "Usage", "the cause is not buried")
	}
}

func TestBadFlags(t *testing.T) {
	path := write(t, goodConfig)
	for flag, want := range map[string]string{
		"--bogus":                           "--help lists the flags",
		"--use-service-account-credentials": "remove the flag",
		"--controllers=bogus":               `"bogus" is not in the list of known controllers`,
		"--webhooks=x":                      "unknown flag",
		"--cloud-config-map=x":              `"x" is not NAMESPACE/NAME`,

		"--announcer-token-review-interval=6m": "6m0s is not between 1s and 5m0s",
		"--announcer-token-review-interval=0":  "0s is not between 1s and 5m0s",

		"--cleanup-addresses=Delete":         `"Delete" is neither Keep nor Remove`,
		"--cleanup-addresses=Remove":         "is for --cleanup, which is not given",
		"--cleanup-deployment=baremetal-ccm": "is for --cleanup, which is not given",
	} {
		_, err := execute(t, "--cloud-config="+path, flag)
		require.ErrorContains(t, err, want)
	}
}

// K3.7: without our controller the process would lead and do nothing, without a word.
func TestFault_K3_7_ControllersWithoutOurs(t *testing.T) {
	path := write(t, goodConfig)
	for _, chosen := range []string{"service-lb-controller", "*,-baremetal-controller", "-service-lb-controller", "service"} {
		_, err := execute(t, "--cloud-config="+path, "--controllers="+chosen)
		require.ErrorContains(t, err, "leaves out baremetal-controller", chosen)
		require.ErrorContains(t, err, "use --controllers=*")
	}
	for _, chosen := range []string{"*", "*,-cloud-node-controller", "*,-service-lb-controller", "baremetal-controller"} {
		_, err := execute(t, "--cloud-config="+path, "--controllers="+chosen, "--kubeconfig=/nowhere")
		require.ErrorContains(t, err, "/nowhere", chosen)
	}
}

func TestDefaults(t *testing.T) {
	o, err := newOptions("somewhere")
	require.NoError(t, err)
	require.Equal(t, "baremetal", o.KubeCloudShared.CloudProvider.Name)
	require.Equal(t, "somewhere", o.Generic.LeaderElection.ResourceNamespace)
	require.Greater(t, o.ServiceController.ConcurrentServiceSyncs, int32(1))

	command, err := newCommand(t.Context())
	require.NoError(t, err)
	require.Equal(t, programName, command.Name())
	require.Equal(t, ":10270", command.Flags().Lookup("announcer-listen-address").DefValue)
	require.Equal(t, "10s", command.Flags().Lookup("leader-elect-lease-duration").DefValue)

	p := &program{options: o}
	require.Contains(t, p.controllerSet(), names.ServiceLBController)
	require.NotContains(t, p.controllerSet(), names.CloudNodeLifecycleController, "it deletes Nodes")
}

// Without nodes in the cloud-config the stock controller of nodes is not even built.
func TestNodeControllerIsStartedOnlyForNodes(t *testing.T) {
	built := false
	start := nodeController(func(app.ControllerInitContext, *appconfig.CompletedConfig, cloudprovider.Interface) app.InitFunc {
		built = true
		return func(context.Context, genericcontrollermanager.ControllerContext) (controller.Interface, bool, error) {
			return nil, true, nil
		}
	})
	for _, served := range []bool{false, true} {
		_, started, err := start(app.ControllerInitContext{}, nil, &fakecloud.Cloud{EnableInstancesV2: served})(t.Context(), genericcontrollermanager.ControllerContext{})
		require.NoError(t, err)
		require.Equal(t, served, built)
		require.Equal(t, served, started)
	}
}

func clientOf(t *testing.T, url string) kubernetes.Interface {
	client, err := kubernetes.NewForConfig(&rest.Config{Host: url})
	require.NoError(t, err)
	return client
}

// writerFunc is a log of which only matters that something is said.
type writerFunc func()

func (f writerFunc) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

func TestWaitForAPIServer(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			w.WriteHeader(http.StatusForbidden) // it works; we may not ask
		}
	}))
	defer server.Close()
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	require.NoError(t, waitForAPIServer(t.Context(), clientOf(t, server.URL), log))
	require.Equal(t, int32(2), asked.Load())
	require.Contains(t, text.String(), "waiting for the API server")
	require.Contains(t, text.String(), "the API server answers")

	server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log = slog.New(slog.NewTextHandler(writerFunc(cancel), nil)) // it ends once it said that it waits
	require.ErrorContains(t, waitForAPIServer(ctx, clientOf(t, server.URL), log), "connection refused")
}
