package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"baremetal.cloud/ccm/pkg/cloud"
)

// TestNamesOfTheCCM: the names are those that the CCM uses.
func TestNamesOfTheCCM(t *testing.T) {
	require.Equal(t, []string{cloud.ConditionAllocated, cloud.ConditionAnnounced, cloud.ConfigMapName, cloud.ConfigMapKey},
		[]string{conditionAllocated, conditionAnnounced, configMapName, configMapKey})
}

func condition(kind, status, reason, message string) object {
	return object{"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-11-30T10:00:00Z"}
}

// newBareMetal serves a cluster with Services in all states and a cloud-config.
func newBareMetal(t *testing.T) (*apiServer, string) {
	t.Helper()
	s, kubeconfig := newAPIServer(t)
	service := func(namespace, name string, ips []string, conditions ...object) object {
		var ingress []object
		for _, ip := range ips {
			ingress = append(ingress, object{"ip": ip})
		}
		return object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": name, "namespace": namespace}, "spec": object{"type": "LoadBalancer"},
			"status": object{"loadBalancer": object{"ingress": ingress}, "conditions": conditions}}
	}
	waiting := service("web", "waiting", nil, condition(cloud.ConditionAllocated, "False", "PoolFull", "no pool has a free address"))
	waiting["spec"] = object{"type": "LoadBalancer", "loadBalancerClass": "baremetal.cloud/lb"}
	inside := object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": "inside", "namespace": "web"}, "spec": object{"type": "ClusterIP"}}
	services := object{"kind": "ServiceList", "apiVersion": "v1", "metadata": object{}, "items": []object{
		service("web", "up", []string{"192.0.2.1", "2001:db8::1"}, condition(cloud.ConditionAllocated, "True", "Allocated", "ok"), condition(cloud.ConditionAnnounced, "True", "Announced", "announced")),
		waiting, inside,
		service("db", "mute", []string{"192.0.2.2"}, condition(cloud.ConditionAllocated, "True", "Allocated", "ok"), condition(cloud.ConditionAnnounced, "False", "NoEndpoints", "no endpoint is ready")),
		service("db", "strange", []string{"192.0.2.3"}),
	}}
	config := object{"kind": "ConfigMap", "apiVersion": "v1", "metadata": object{"name": "baremetal-cloud-config"},
		"data": object{"cloud-config.yaml": "apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\nbgp: {peers: [{name: p, address: 192.0.2.99, localASN: 1, peerASN: 2}]}\n" +
			"pools:\n- name: lan\n  addresses: [192.0.2.0/30, \"2001:db8::/64\"]\n- name: routed\n  disabled: true\n  addresses: [198.51.100.1-198.51.100.3]\n  l2: [{}]\n  bgp: [{}]\n"}}
	s.change(func(objects map[string]any) {
		delete(objects, "/api/v1/services?more")
		objects["/api/v1/services"] = services
		objects["/api/v1/namespaces/baremetal-ccm/configmaps/baremetal-cloud-config"] = config
	})
	return s, kubeconfig
}

// trimmed removes the spaces at the ends of lines.
func trimmed(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func TestServices(t *testing.T) {
	_, kubeconfig := newBareMetal(t)
	got := runProgram(t, "", "services", "-A", "--kubeconfig", kubeconfig)
	require.Zero(t, got.status, got.stderr)
	require.Equal(t, `NAMESPACE   NAME      ADDRESSES               ALLOCATED   ANNOUNCED
db          mute      192.0.2.2               Allocated   NoEndpoints
db          strange   192.0.2.3               -           -
web         up        192.0.2.1,2001:db8::1   Allocated   Announced
web         waiting   -                       PoolFull    -
`, trimmed(got.stdout))
	wide := runProgram(t, "", "services", "-A", "-o", "wide", "--kubeconfig", kubeconfig)
	require.Contains(t, wide.stdout, "no endpoint is ready")
	require.Contains(t, wide.stdout, "baremetal.cloud/lb   no pool has a free address")
	var all []serviceView
	require.NoError(t, json.Unmarshal([]byte(runProgram(t, "", "services", "-A", "-o", "json", "--kubeconfig", kubeconfig).stdout), &all))
	require.Len(t, all, 4)
	require.Equal(t, "NoEndpoints", all[0].Announced.Reason)
	// The context has the namespace other, which has no Services.
	none := runProgram(t, "", "services", "--kubeconfig", kubeconfig)
	require.Equal(t, outcome{"", "no Services of type LoadBalancer found\n", 0}, none)
	require.Equal(t, "[]\n", runProgram(t, "", "services", "-o", "json", "--kubeconfig", kubeconfig).stdout)
}

func TestWho(t *testing.T) {
	_, kubeconfig := newBareMetal(t)
	for address, want := range map[string]struct {
		status         int
		stdout, stderr string
	}{
		"2001:db8::1": {0, "web         up     192.0.2.1,2001:db8::1   Allocated   Announced\n", ""},
		"192.0.2.2":   {1, "db          mute   192.0.2.2   Allocated   NoEndpoints\n", ""},
		"192.0.2.3":   {1, "db          strange   192.0.2.3   -           -\n", ""},
		"192.0.2.9":   {1, "", "error: no Service holds 192.0.2.9\n"},
		"x":           {1, "", "error: \"x\" is not an address\n"},
	} {
		got := runProgram(t, "", "who", address, "--kubeconfig", kubeconfig)
		require.Equal(t, want.status, got.status, address)
		_, rows, _ := strings.Cut(trimmed(got.stdout), "\n")
		require.Equal(t, want.stdout, rows, address)
		require.Equal(t, want.stderr, got.stderr, address)
	}
	asJSON := runProgram(t, "", "who", "192.0.2.9", "-o", "json", "--kubeconfig", kubeconfig)
	require.Equal(t, statusError, asJSON.status)
	require.Contains(t, asJSON.stdout, "[]\n")
}

func TestPools(t *testing.T) {
	s, kubeconfig := newBareMetal(t)
	got := runProgram(t, "", "pools", "-o", "wide", "--kubeconfig", kubeconfig)
	require.Equal(t, outcome{`NAME     SIZE                   USED   FREE                   ANNOUNCED   STATE      ADDRESSES
lan      18446744073709551620   4      18446744073709551616   l2          enabled    192.0.2.0-192.0.2.3,2001:db8::-2001:db8::ffff:ffff:ffff:ffff
routed   3                      0      3                      l2+bgp      disabled   198.51.100.1-198.51.100.3
`, "", 0}, got)
	var document []map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(runProgram(t, "", "pools", "-o", "yaml", "--kubeconfig", kubeconfig).stdout), &document))
	require.Equal(t, 4, document[0]["used"])
	fill := func(data object) {
		s.change(func(objects map[string]any) {
			objects["/api/v1/namespaces/baremetal-ccm/configmaps/baremetal-cloud-config"].(object)["data"] = data
		})
	}
	fill(object{"cloud-config.yaml": "pools: 1\n"})
	bad := runProgram(t, "", "pools", "--kubeconfig", kubeconfig)
	require.Equal(t, statusError, bad.status)
	require.Contains(t, bad.stderr, "baremetal-ccm/baremetal-cloud-config:1:8: pools: want a list")
	fill(object{})
	require.Contains(t, runProgram(t, "", "pools", "--kubeconfig", kubeconfig).stderr, "has no key cloud-config.yaml")
	missing := runProgram(t, "", "pools", "--ccm-namespace", "elsewhere", "--kubeconfig", kubeconfig)
	require.Contains(t, missing.stderr, "error: reading the ConfigMap elsewhere/baremetal-cloud-config: ")
}
