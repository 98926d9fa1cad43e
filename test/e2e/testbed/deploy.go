package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// web is a web server on one node. There is a DaemonSet per node, so that each server
// carries its node's name as a label for Services to select.
const web = `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web-%[1]s, namespace: default}
spec:
  selector: {matchLabels: {app: web, node: %[1]s}}
  template:
    metadata: {labels: {app: web, node: %[1]s}}
    spec:
      nodeSelector: {kubernetes.io/hostname: %[1]s}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: ` + webImage + `
        env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        ports:
        - {name: http, containerPort: 8080, protocol: TCP}
        - {name: echo, containerPort: 8081, protocol: UDP}
        readinessProbe:
          httpGet: {path: /, port: http}
---
`

// cloudConfig gives out the testbed's pools on the LAN.
const cloudConfig = `apiVersion: baremetal.cloud/v1alpha1
kind: CloudConfig
loadBalancerClass: baremetal.cloud/lb
pools:
- name: default
  addresses: [%q, %q]
  l2: {interface: eth0}
`

// deploy applies what runs in the cluster and waits until it works.
func (s *supervisor) deploy(ctx context.Context) error {
	s.progress("web servers: one per node")
	var manifest strings.Builder
	for _, name := range s.layout.NodeNames() {
		fmt.Fprintf(&manifest, web, name)
	}
	if _, err := s.kubectl(ctx, manifest.String(), "apply", "-f", "-"); err != nil {
		return err
	}
	if !s.NoDeploy {
		s.progress("deploy/: cloud-controller-manager and announcers")
		overlay, err := s.writeOverlay(ctx)
		if err != nil {
			return err
		}
		if _, err := s.kubectl(ctx, "", "apply", "-k", overlay); err != nil {
			return err
		}
		if err := await(ctx, 2*time.Minute, "not every announcer has a plan", s.planned); err != nil {
			return err
		}
	}
	return await(ctx, time.Minute, "not every web server is ready", s.webReady)
}

// kubectl runs the real kubectl as administrator and returns its standard output.
func (s *supervisor) kubectl(ctx context.Context, stdin string, args ...string) ([]byte, error) {
	return runKubectl(ctx, s.Dir, stdin, args...)
}

func runKubectl(ctx context.Context, dir, stdin string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "bin", "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(dir, "kubeconfig"))
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// writeOverlay writes the kustomize overlay that fits deploy/ to this testbed, and
// returns its directory.
func (s *supervisor) writeOverlay(ctx context.Context) (string, error) {
	base, err := s.base()
	if err != nil {
		return "", err
	}
	rendered, err := s.kubectl(ctx, "", "kustomize", base)
	if err != nil {
		return "", err
	}
	objects, err := decode(rendered)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(s.Dir, "overlay")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// Kustomize wants relative paths.
	relative, err := filepath.Rel(dir, base)
	if err != nil {
		return "", err
	}
	k := map[string]any{
		"apiVersion": "kustomize.config.k8s.io/v1beta1",
		"kind":       "Kustomization",
		"resources":  []string{relative},
	}
	if !hasCloudConfig(objects) {
		text := fmt.Sprintf(cloudConfig, s.layout.PoolV4, s.layout.PoolV6)
		if err := os.WriteFile(filepath.Join(dir, "cloud-config.yaml"), []byte(text), 0o644); err != nil {
			return "", err
		}
		k["configMapGenerator"] = []any{map[string]any{
			"name": "baremetal-cloud-config", "namespace": "baremetal-ccm", "files": []string{"cloud-config.yaml"},
		}}
		k["generatorOptions"] = map[string]any{"disableNameSuffixHash": true}
	}
	patch, err := s.controllersPatch(objects)
	if err != nil {
		return "", err
	}
	k["patches"] = []any{map[string]any{
		"target": map[string]string{"kind": "DaemonSet", "name": "baremetal-announcer"}, "patch": patch,
	}}
	// JSON is YAML, too.
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), data, 0o644)
}

func (s *supervisor) base() (string, error) {
	if s.Overlay != "" {
		return s.Overlay, nil
	}
	repo, err := Repository()
	return filepath.Join(repo, "deploy"), err
}

func decode(rendered []byte) ([]unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(rendered), 4096)
	var objects []unstructured.Unstructured
	for {
		var o unstructured.Unstructured
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
}

func hasCloudConfig(objects []unstructured.Unstructured) bool {
	return slices.ContainsFunc(objects, func(o unstructured.Unstructured) bool {
		return o.GetKind() == "ConfigMap" && o.GetName() == "baremetal-cloud-config"
	})
}

// controllersPatch makes the announcers dial the nodes that the replicas land on: there
// is no DNS in a testbed.
func (s *supervisor) controllersPatch(objects []unstructured.Unstructured) (string, error) {
	var replicas []string
	for _, n := range s.layout.Nodes[:min(2, len(s.layout.Nodes))] {
		replicas = append(replicas, n.Primary().V4.String()+":10270")
	}
	value := "--controllers=" + strings.Join(replicas, ",")
	for _, o := range objects {
		if o.GetKind() != "DaemonSet" || o.GetName() != "baremetal-announcer" {
			continue
		}
		var set appsv1.DaemonSet
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &set); err != nil {
			return "", err
		}
		args := set.Spec.Template.Spec.Containers[0].Args
		op, at := "add", "-"
		if i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "--controllers=") }); i >= 0 {
			op, at = "replace", strconv.Itoa(i)
		}
		patch, err := json.Marshal([]any{map[string]string{
			"op": op, "path": "/spec/template/spec/containers/0/args/" + at, "value": value,
		}})
		return string(patch), err
	}
	return "", errors.New("the manifests have no DaemonSet baremetal-announcer")
}

// planned reports whether every announcer is healthy and has been told something.
func (s *supervisor) planned(ctx context.Context) error {
	for _, n := range s.nodes {
		ns, name := n.agent.Node.NetNS, n.agent.Node.Name
		if _, err := get(ctx, ns, "http://127.0.0.1:10271/healthz"); err != nil {
			return fmt.Errorf("announcer of %s: %w", name, err)
		}
		body, err := get(ctx, ns, "http://127.0.0.1:10271/metrics")
		if err != nil {
			return fmt.Errorf("announcer of %s: %w", name, err)
		}
		if metric(string(body), "baremetal_announcer_plan_revision") <= 0 {
			return fmt.Errorf("announcer of %s has no plan", name)
		}
	}
	return nil
}

// metric returns the value of the first sample called name, 0 if there is none.
func metric(text, name string) float64 {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 2 && (fields[0] == name || strings.HasPrefix(fields[0], name+"{")) {
			value, _ := strconv.ParseFloat(fields[1], 64)
			return value
		}
	}
	return 0
}

func (s *supervisor) webReady(ctx context.Context) error {
	sets, err := s.admin.AppsV1().DaemonSets("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, set := range sets.Items {
		if set.Status.NumberReady < 1 {
			return fmt.Errorf("DaemonSet %s has no ready Pod", set.Name)
		}
	}
	return nil
}
