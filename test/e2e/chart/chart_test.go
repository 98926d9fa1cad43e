//go:build e2e

// Package chart compares the Helm chart with the manifests of kustomize, and asks Helm what it refuses.
// It needs no cluster. Test/e2e installs the chart in one.
package chart

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	k8syaml "k8s.io/apimachinery/pkg/util/yaml"

	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/test/e2e/testbed"
)

// TestMain builds Helm, where it is not there yet.
func TestMain(m *testing.M) {
	if err := testbed.Helm(context.Background(), "../../../.cache/bin", os.Stderr); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const (
	root = "../../.."
	dir  = "deploy/helm/baremetal-ccm"
)

// run runs a program of .cache/bin in the repository's root.
func run(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, ".cache", "bin", program))
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), path, args...)
	command.Dir = root
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", errors.New(stderr.String())
	}
	return stdout.String(), nil
}

// template renders the chart.
func template(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return run(t, "helm", append([]string{"template", "baremetal-ccm", dir, "--namespace", "baremetal-ccm"}, args...)...)
}

// objects reads a stream of Kubernetes objects, by kind, namespace and name.
func objects(t *testing.T, text string) map[string]unstructured.Unstructured {
	t.Helper()
	decoder := k8syaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	all := map[string]unstructured.Unstructured{}
	for {
		var o unstructured.Unstructured
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		if o.Object == nil { // a template without an object
			continue
		}
		key := strings.Join([]string{o.GetKind(), o.GetNamespace(), o.GetName()}, " ")
		require.NotContains(t, all, key)
		all[key] = o
	}
}

// rendered returns the objects of the chart.
func rendered(t *testing.T, args ...string) map[string]unstructured.Unstructured {
	t.Helper()
	text, err := template(t, args...)
	require.NoError(t, err)
	return objects(t, text)
}

// valuesFile writes values for Helm.
func valuesFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "values.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// withConfig writes values with the cloud-config of a file of the repository.
func withConfig(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, file))
	require.NoError(t, err)
	var cfg map[string]any
	require.NoError(t, yaml.Unmarshal(data, &cfg))
	text, err := yaml.Marshal(map[string]any{"config": cfg})
	require.NoError(t, err)
	return valuesFile(t, string(text))
}

const (
	cloudConfigMap = "ConfigMap baremetal-ccm baremetal-cloud-config"
	cleanupSuffix  = "baremetal-ccm-cleanup"
)

// helmsOwn are the labels and annotations that the chart adds.
var (
	ownLabels      = []string{"app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "helm.sh/chart"}
	ownAnnotations = []string{"helm.sh/hook", "helm.sh/hook-delete-policy", "helm.sh/resource-policy"}
)

// stripped returns the chart's objects as they would be without Helm. Those of the uninstall are hooks alone.
func stripped(t *testing.T, all map[string]unstructured.Unstructured) map[string]any {
	t.Helper()
	plain := map[string]any{}
	for key, o := range all {
		if strings.HasSuffix(key, cleanupSuffix) {
			require.Equal(t, "pre-delete", o.GetAnnotations()["helm.sh/hook"], key)
			continue
		}
		labels, annotations := o.GetLabels(), o.GetAnnotations()
		for _, name := range ownLabels {
			require.NotEmpty(t, labels[name], "%s has the label %s", key, name)
			delete(labels, name)
		}
		for _, name := range ownAnnotations {
			delete(annotations, name)
		}
		o.SetLabels(labels)
		if o.SetAnnotations(annotations); len(annotations) == 0 {
			o.SetAnnotations(nil)
		}
		plain[key] = o.Object
	}
	return plain
}

// kustomized returns the objects of an overlay on deploy/example with some components. The Namespace is the
// user's with Helm, and the labels of the cloud-config's ConfigMap are Helm's alone.
func kustomized(t *testing.T, components ...string) map[string]any {
	t.Helper()
	overlay, err := os.MkdirTemp(filepath.Join(root, ".cache"), "chart-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(overlay)) })
	k := map[string]any{"resources": []string{"../../deploy/example"}}
	var paths []string
	for _, c := range components {
		paths = append(paths, "../../deploy/components/"+c)
	}
	k["components"] = paths
	data, err := json.Marshal(k)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), data, 0o600))
	path, err := filepath.Abs(overlay)
	require.NoError(t, err)
	text, err := run(t, "kubectl", "kustomize", path)
	require.NoError(t, err)
	all := objects(t, text)
	delete(all, "Namespace  baremetal-ccm")
	plain := map[string]any{}
	for key, o := range all {
		plain[key] = o.Object
	}
	return plain
}

// parsed replaces the text of the cloud-config by its content: two writers of YAML put keys in another order.
func parsed(t *testing.T, all map[string]any) {
	t.Helper()
	o := unstructured.Unstructured{Object: all[cloudConfigMap].(map[string]any)}
	text, found, err := unstructured.NestedString(o.Object, "data", "cloud-config.yaml")
	require.NoError(t, err)
	require.True(t, found)
	var content any
	require.NoError(t, yaml.Unmarshal([]byte(text), &content))
	o.Object["data"] = content
	o.SetLabels(nil)
}

// TestChartIsEqualToKustomize compares object by object, with each component and preset for which deploy/ has a
// counterpart.
func TestChartIsEqualToKustomize(t *testing.T) {
	cfg := withConfig(t, "deploy/example/cloud-config.yaml")
	for name, c := range map[string]struct {
		components []string
		args       []string
	}{
		"plain":             {nil, nil},
		"nodes":             {[]string{"nodes"}, []string{"--set", "components.nodes=true"}},
		"one node":          {[]string{"one-node"}, []string{"--values", dir + "/presets/one-node.yaml"}},
		"disruption budget": {[]string{"disruption-budget"}, []string{"--set", "components.disruptionBudget=true"}},
	} {
		t.Run(name, func(t *testing.T) {
			want := kustomized(t, c.components...)
			have := stripped(t, rendered(t, append(c.args, "--values", cfg)...))
			parsed(t, want)
			parsed(t, have)
			for key := range want {
				require.Contains(t, have, key, "the chart lacks an object")
			}
			for key := range have {
				require.Contains(t, want, key, "deploy/ lacks an object")
				require.Equal(t, want[key], have[key], key)
			}
		})
	}
}

// TestEachComponentIsASwitch: a component that is added to deploy/ has to be added to the chart, too.
func TestEachComponentIsASwitch(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join(root, "deploy", "components"))
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.Equal(t, []string{"disruption-budget", "nodes", "one-node"}, names)
}

// TestFilledObjects: what the CCM fills is no part of the release, and has no data.
func TestFilledObjects(t *testing.T) {
	all := rendered(t)
	for _, key := range []string{
		"Secret baremetal-ccm baremetal-ccm-tls",
		"ConfigMap baremetal-ccm baremetal-ccm-ca",
		"ConfigMap baremetal-ccm baremetal-cloud-config-last-good",
		"Lease baremetal-ccm baremetal-ccm",
	} {
		o := all[key]
		require.Equal(t, "pre-install,pre-upgrade", o.GetAnnotations()["helm.sh/hook"], key)
		require.Equal(t, "hook-failed", o.GetAnnotations()["helm.sh/hook-delete-policy"], "%s is not deleted before it is created", key)
		require.Equal(t, "keep", o.GetAnnotations()["helm.sh/resource-policy"], key)
		require.NotContains(t, o.Object, "data", key)
		require.NotContains(t, o.Object, "stringData", key)
	}
}

// TestCleanupRights: the Job of the uninstall may do what it does and no more, and its rights are gone with it.
func TestCleanupRights(t *testing.T) {
	all := rendered(t)
	rules := func(key string) any {
		o := all[key]
		require.Equal(t, "before-hook-creation,hook-succeeded", o.GetAnnotations()["helm.sh/hook-delete-policy"], key)
		return o.Object["rules"]
	}
	rule := func(group, resource string, names []any, verbs ...any) any {
		r := map[string]any{"apiGroups": []any{group}, "resources": []any{resource}, "verbs": verbs}
		if names != nil {
			r["resourceNames"] = names
		}
		return r
	}
	require.Equal(t, []any{
		rule("", "services", nil, "get", "list"),
		rule("", "services/status", nil, "patch"),
	}, rules("ClusterRole  "+cleanupSuffix))
	require.Equal(t, []any{
		rule("coordination.k8s.io", "leases", []any{"baremetal-ccm"}, "get"),
		rule("apps", "deployments/scale", []any{"baremetal-ccm"}, "patch"),
	}, rules("Role baremetal-ccm "+cleanupSuffix))
	for _, key := range []string{"ClusterRoleBinding  ", "RoleBinding baremetal-ccm "} {
		require.Equal(t, []any{map[string]any{"kind": "ServiceAccount", "name": cleanupSuffix, "namespace": "baremetal-ccm"}}, all[key+cleanupSuffix].Object["subjects"])
	}
	labels, _, err := unstructured.NestedStringMap(all["Job baremetal-ccm "+cleanupSuffix].Object, "spec", "template", "metadata", "labels")
	require.NoError(t, err)
	require.Equal(t, cleanupSuffix, labels["app.kubernetes.io/name"], "the Service baremetal-ccm must not select it")
}

// configOf returns the cloud-config of the chart's ConfigMap, as the CCM reads it.
func configOf(t *testing.T, all map[string]unstructured.Unstructured) *config.Config {
	t.Helper()
	text, _, err := unstructured.NestedString(all[cloudConfigMap].Object, "data", "cloud-config.yaml")
	require.NoError(t, err)
	cfg, _, err := config.Parse([]byte(text), "cloud-config.yaml")
	require.NoError(t, err, text)
	return cfg
}

// TestConfigComesThrough: every key of the reference means the same to the CCM after Helm has read and written it.
func TestConfigComesThrough(t *testing.T) {
	want, _, err := config.Load(filepath.Join(root, "docs", "reference.yaml"))
	require.NoError(t, err)
	have := configOf(t, rendered(t, "--values", withConfig(t, "docs/reference.yaml"), "--set", "components.nodes=true"))
	require.Equal(t, want, have)
}

// TestReadme: the command in README's first screen renders, and its pool is one that the CCM takes.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	screen := strings.Join(strings.SplitN(string(readme), "\n", 30)[:29], "\n")
	found := regexp.MustCompile("(?s)```sh\nhelm install baremetal-ccm (.*?)```").FindStringSubmatch(screen)
	require.NotNil(t, found)
	words := strings.Fields(strings.NewReplacer("\\\n", " ", "'", "", "--create-namespace", "").Replace(found[1]))
	text, err := run(t, "helm", append([]string{"template", "baremetal-ccm"}, words...)...)
	require.NoError(t, err)
	all := objects(t, text)
	require.Len(t, configOf(t, all).Pools, 1)
	require.Contains(t, text, "image: registry.example/team/baremetal-announcer:dev")
}

// TestPresets: each renders, alone and on one node, and the chart is linted with it.
func TestPresets(t *testing.T) {
	cfg := withConfig(t, "deploy/example/cloud-config.yaml")
	presets, err := filepath.Glob(filepath.Join(root, dir, "presets", "*.yaml"))
	require.NoError(t, err)
	var names []string
	for _, path := range presets {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		names = append(names, name)
		t.Run(name, func(t *testing.T) {
			args := []string{"--values", dir + "/presets/one-node.yaml", "--values", dir + "/presets/" + name + ".yaml", "--values", cfg}
			all := rendered(t, args...)
			replicas, _, err := unstructured.NestedInt64(all["Deployment baremetal-ccm baremetal-ccm"].Object, "spec", "replicas")
			require.NoError(t, err)
			require.EqualValues(t, 1, replicas)
			rendered(t, args[2:]...)
			out, err := run(t, "helm", append([]string{"lint", dir, "--strict", "--namespace", "baremetal-ccm"}, args[2:]...)...)
			require.NoError(t, err, out)
		})
	}
	require.Equal(t, []string{"k3s", "kubeadm", "one-node", "rke2", "talos"}, names)
}

// TestRefusals: what cannot work is refused before anything is applied, with the place and the cause.
func TestRefusals(t *testing.T) {
	cases := []struct {
		values string
		want   []string
	}{
		{"config: {pool: []}", []string{"/config", "'pool'"}},
		{"config: {pools: [{name: a, addresses: [192.0.2.1], priorty: 1}]}", []string{"/config/pools/0", "'priorty'"}},
		{"config: {pools: [{name: a}]}", []string{"/config/pools/0", "'addresses'"}},
		{"config: {pools: [{name: a, addresses: 192.0.2.1}]}", []string{"/config/pools/0/addresses", "array"}},
		{"config: {kind: Cloudconfig}", []string{"/config/kind", "CloudConfig"}},
		{"config: {onShrink: refuse}", []string{"/config/onShrink", "Refuse"}},
		{"config: {announce: {interval: 5}}", []string{"/config/announce/interval", "string"}},
		{"config: {announce: {interval: 5 s}}", []string{"/config/announce/interval", "pattern"}},
		{"config: {bgp: {peers: [{name: a, address: 192.0.2.1, localASN: 64512, peerASN: 64513, bfd: {multiplier: 3}}]}}", []string{"/config/bgp/peers/0/bfd", "'multiplier'"}},
		{"config: {nodes: {}}", []string{"components.nodes=true"}},
		{"cmm: {}", []string{"'cmm'"}},
		{"ccm: {port: 10270}", []string{"/ccm/port"}},
		{"ccm: {replicas: 0}", []string{"/ccm/replicas"}},
		{"ccm: {image: {digest: sha256:123}}", []string{"/ccm/image/digest"}},
		{"ccm: {extraArgs: [v=4]}", []string{"/ccm/extraArgs/0"}},
		{"announcer: {logLevel: verbose}", []string{"/announcer/logLevel", "debug"}},
		{"cleanup: {addresses: Delete}", []string{"/cleanup/addresses", "Keep"}},
	}
	for _, c := range cases {
		file := valuesFile(t, c.values) // a comma in the name of a subtest's directory would be Helm's
		t.Run(c.values, func(t *testing.T) {
			_, err := template(t, "--values", file)
			require.Error(t, err)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
	_, err := run(t, "helm", "template", "baremetal-ccm", dir, "--namespace", "default")
	require.ErrorContains(t, err, "--namespace baremetal-ccm --create-namespace")
	_, err = template(t, "--kube-version", "1.29.9")
	require.ErrorContains(t, err, ">=1.30.0")
}

// TestValuesReachTheManifests checks each value of the chart beside the cloud-config.
func TestValuesReachTheManifests(t *testing.T) {
	all := rendered(t, "--values", valuesFile(t, `
image: {registry: registry.example/team/, tag: v1, pullPolicy: Always, pullSecrets: [{name: secret}]}
ccm:
  image: {repository: one, digest: "sha256:`+strings.Repeat("0", 64)+`"}
  replicas: 3
  port: 11273
  logLevel: 4
  extraArgs: [--kube-api-qps=7]
  env: {KUBERNETES_SERVICE_PORT: "7445"}
  nodeSelector: {rack: a}
  tolerations: [{key: ours, operator: Exists}]
  priorityClassName: high
  resources: {requests: {cpu: 70m}}
  goMemLimit: 500MiB
announcer:
  image: {repository: two, tag: v2}
  logLevel: debug
  extraArgs: ["--controllers=192.0.2.1:10270"]
  nodeSelector: {rack: b}
  tolerations: [{key: theirs, operator: Exists}]
  priorityClassName: higher
  resources: {limits: {memory: 200Mi}}
  goMemLimit: 90MiB
`))
	spec := func(key string) map[string]any {
		s, found, err := unstructured.NestedMap(all[key].Object, "spec", "template", "spec")
		require.NoError(t, err)
		require.True(t, found, key)
		return s
	}
	text := func(v any) string {
		data, err := json.Marshal(v)
		require.NoError(t, err)
		return string(data)
	}
	ccm, announcer, job := spec("Deployment baremetal-ccm baremetal-ccm"), spec("DaemonSet baremetal-ccm baremetal-announcer"), spec("Job baremetal-ccm "+cleanupSuffix)
	require.EqualValues(t, 3, all["Deployment baremetal-ccm baremetal-ccm"].Object["spec"].(map[string]any)["replicas"])
	for _, s := range []map[string]any{ccm, job} {
		have := text(s)
		for _, want := range []string{
			`"image":"registry.example/team/one@sha256:000`, `"imagePullPolicy":"Always"`, `"imagePullSecrets":[{"name":"secret"}]`,
			`{"name":"KUBERNETES_SERVICE_PORT","value":"7445"}`, `"nodeSelector":{"kubernetes.io/os":"linux","rack":"a"}`, `{"key":"ours","operator":"Exists"}`,
			`"priorityClassName":"high"`, `"cpu":"70m"`, `"value":"500MiB"`,
		} {
			require.Contains(t, have, want)
		}
	}
	for _, want := range []string{`"--secure-port=11273","--v=4","--kube-api-qps=7"]`, `"containerPort":11273,"name":"https"`} {
		require.Contains(t, text(ccm), want)
	}
	for _, want := range []string{
		`"image":"registry.example/team/two:v2"`, `"--log-level=debug","--controllers=192.0.2.1:10270"]`, `"imagePullSecrets":[{"name":"secret"}]`,
		`"nodeSelector":{"kubernetes.io/os":"linux","rack":"b"}`, `"tolerations":[{"key":"theirs","operator":"Exists"}]`,
		`"priorityClassName":"higher"`, `"memory":"200Mi"`, `"value":"90MiB"`,
	} {
		require.Contains(t, text(announcer), want)
	}
	for key := range rendered(t, "--set", "cleanup.enabled=false") {
		require.False(t, strings.HasSuffix(key, cleanupSuffix), key)
	}
}
