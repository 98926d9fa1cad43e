//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// announcersHoldNoPermission asks the API server what an announcer's ServiceAccount may
// do: nothing but what every authenticated user may.
func (l *lab) announcersHoldNoPermission() {
	l.Helper()
	for _, question := range [][]string{
		{"get", "services"}, {"list", "nodes"}, {"watch", "endpointslices"}, {"get", "secrets"}, {"create", "events"}, {"get", "configmaps"}, {"get", "pods"},
	} {
		out, _ := l.c.Kubectl(l.Context(), "auth", "can-i", question[0], question[1], "--namespace", system,
			"--as", "system:serviceaccount:"+system+":baremetal-announcer")
		require.Equal(l, "no", strings.TrimSpace(out), "%v", question)
	}
}

// badConfigChangesNothing puts a broken cloud-config into the ConfigMap (promise 8).
func (l *lab) badConfigChangesNothing() {
	l.Helper()
	l.create("held", nil)
	address := l.address("held")
	configs := l.client.CoreV1().ConfigMaps(system)
	good, err := configs.Get(l.Context(), "baremetal-cloud-config", metav1.GetOptions{})
	require.NoError(l, err)
	bad := good.DeepCopy()
	bad.Data["cloud-config.yaml"] += "\nunknown: true\n"
	_, err = configs.Update(l.Context(), bad, metav1.UpdateOptions{})
	require.NoError(l, err)
	l.eventually(func(t *assert.CollectT) {
		events, err := l.client.CoreV1().Events(system).List(l.Context(), metav1.ListOptions{FieldSelector: "reason=CloudConfigRefused"})
		require.NoError(t, err)
		require.NotEmpty(t, events.Items)
		require.Contains(t, events.Items[0].Message, "unknown")
	}, "no Event about the bad cloud-config")
	require.Equal(l, address, l.address("held"))
	l.create("meanwhile", nil)
	require.True(l, l.c.PoolV4().Contains(l.address("meanwhile")), "the last good cloud-config stays in use")

	now, err := configs.Get(l.Context(), "baremetal-cloud-config", metav1.GetOptions{})
	require.NoError(l, err)
	now.Data = good.Data
	_, err = configs.Update(l.Context(), now, metav1.UpdateOptions{})
	require.NoError(l, err)
	l.delete("held")
	l.delete("meanwhile")
}

// cleanupUnblocksDeletion uninstalls: with the CCM gone a Service with our finalizers
// cannot be deleted until --cleanup has run.
func (l *lab) cleanupUnblocksDeletion() {
	l.Helper()
	class := "baremetal.cloud/lb"
	l.create("stock", nil)
	l.create("classed", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &class })
	l.address("stock")
	l.address("classed")
	_, err := l.c.Kubectl(l.Context(), "--namespace", system, "delete", "deployment", "baremetal-ccm", "--wait=true", "--cascade=foreground")
	require.NoError(l, err)
	out, err := l.c.In(l.Context(), "node1", l.c.Binary("baremetal-ccm"), "--cleanup", "--kubeconfig", l.c.Kubeconfig())
	require.NoError(l, err, out)
	l.delete("stock")
	l.delete("classed")
}

// TestFirstStartWithABadConfig: status 1 and a message with the file, and the line where
// there is one. There is no last good cloud-config to fall back to.
func TestFirstStartWithABadConfig(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 1, Proxy: "nftables", Mgmt: "lan", NoDeploy: true})
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"missing.yaml": {"", []string{"missing.yaml"}},
		"empty.yaml":   {" \n", []string{"empty.yaml", "is empty"}},
		"wrong.yaml":   {"apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\npools:\n- name: a\n  addresses: [10.0.0.5/24]\n", []string{"wrong.yaml:5:", "10.0.0.0/24"}},
		"unknown.yaml": {"apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\npools: []\npoolz: []\n", []string{"unknown.yaml:4:", "poolz"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			if c.text != "" {
				require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
			}
			out, err := l.c.In(t.Context(), "node1", l.c.Binary("baremetal-ccm"), "--cloud-config", path, "--kubeconfig", l.c.Kubeconfig())
			require.ErrorContains(t, err, "exit status 1", out)
			for _, want := range c.want {
				require.Contains(t, out, want)
			}
			require.NotContains(t, out, "Usage:")
			require.Less(t, strings.Count(out, "\n"), 10, "a message, not a dump:\n%s", out)
		})
	}
}
