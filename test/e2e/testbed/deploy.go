package testbed

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	overlay, err := s.writeOverlay(ctx)
	if err != nil {
		return err
	}
	if !s.NoDeploy {
		s.progress("deploy/: cloud-controller-manager and announcers")
		if _, err := s.kubectl(ctx, "", "apply", "-k", overlay); err != nil {
			return err
		}
		if err := await(ctx, 3*time.Minute, "not every announcer has a plan", s.planned); err != nil {
			return err
		}
	}
	if s.External && s.NoDeploy {
		// Nobody initialises the nodes, so nothing runs there.
		return nil
	}
	return await(ctx, 3*time.Minute, "not every web server is ready", s.webReady)
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
