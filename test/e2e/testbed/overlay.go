package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// cloudConfig gives out the testbed's pools on the LAN.
const cloudConfig = `apiVersion: baremetal.cloud/v1alpha1
kind: CloudConfig
loadBalancerClasses: [baremetal.cloud/lb]
pools:
- name: default
  addresses: [%q, %q]
  l2: [{interface: eth0}]
`

// cloudConfigNodes has nodes initialised, from the labels that nodeLabels makes.
const cloudConfigNodes = `nodes:
  providerID: baremetal://{name}
  zoneLabel: rack
  regionLabel: site
`

// cloudConfigRouted has addresses announced to the routers, to Services that ask for them.
const cloudConfigRouted = `- name: routed
  addresses: [%[1]q, %[2]q]
  autoAssign: false
  bgp: [{}]
bgp:
  peers:
  - {name: frr, address: %[3]s, localASN: %[7]d, peerASN: %[8]d, holdTime: 9s, connectRetryTime: 1s, gracefulRestart: {}}
  - {name: frr-v6, address: %[4]q, localASN: %[7]d, peerASN: %[8]d, holdTime: 9s, connectRetryTime: 1s, gracefulRestart: {}}
  - {name: bird, address: %[5]s, localASN: %[7]d, peerASN: %[9]d, holdTime: 9s, connectRetryTime: 1s, gracefulRestart: {}}
  - {name: bird-v6, address: %[6]q, localASN: %[7]d, peerASN: %[9]d, holdTime: 9s, connectRetryTime: 1s, gracefulRestart: {}}
`

// nodeLabels are those of the i-th node, counted from 0: racks take turns.
func nodeLabels(i int) map[string]string {
	return map[string]string{"rack": string(rune('a' + i%2)), "site": "lab"}
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
	// An overlay of somebody's own says itself what it wants.
	if s.External && s.Overlay == "" {
		k["components"] = []string{filepath.Join(relative, "components", "nodes")}
	}
	if !hasCloudConfig(objects) {
		if err := os.WriteFile(filepath.Join(dir, "cloud-config.yaml"), []byte(s.cloudConfig()), 0o644); err != nil {
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

func (s *supervisor) cloudConfig() string {
	text := fmt.Sprintf(cloudConfig, s.layout.PoolV4, s.layout.PoolV6)
	if s.Routers {
		l := s.layout
		text += fmt.Sprintf(cloudConfigRouted, l.RoutedV4, l.RoutedV6, l.FRR.LAN.V4, l.FRR.LAN.V6, l.BIRD.LAN.V4, l.BIRD.LAN.V6, NodeASN, FRRASN, BIRDASN)
	}
	if s.External {
		text += cloudConfigNodes
	}
	if s.Failover != "" {
		text += "failover: " + s.Failover + "\n"
	}
	return text
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
