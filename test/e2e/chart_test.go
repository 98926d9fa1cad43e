//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

const (
	chartDir = "../../deploy/helm/baremetal-ccm"
	release  = "baremetal-ccm"
	// inUse bounds the time from the end of helm upgrade until a pool that it added is in use.
	inUse = 5 * time.Second
)

// TestChart installs the chart with the real Helm, and does with it what administrators do.
func TestChart(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 2, NoDeploy: true})
	require.NoError(t, testbed.Helm(t.Context(), l.c.BinDir, t.Output()))
	first, both := l.chartValues(1), l.chartValues(2)

	began := time.Now()
	out, err := l.helm("install", release, chartDir, "--create-namespace", "--wait", "--values", first)
	require.NoError(t, err)
	t.Logf("installed and ready after %s", time.Since(began).Round(100*time.Millisecond))
	require.Contains(t, out, "from 1 pool.")
	require.Contains(t, out, "pod-security.kubernetes.io/enforce=privileged")
	l.notesFollowTheCluster()
	l.create("held", nil)
	address := l.address("held")
	mac := l.addressOwner(address)
	filled := l.filledObjects()
	require.Len(t, filled, 4)

	_, err = l.helm("install", "another", chartDir, "--values", first)
	require.ErrorContains(t, err, `already, as the release "`+release+`"`)

	t.Run("upgrade adds a pool", func(t *testing.T) {
		l := l.with(t)
		l.create("waiting", func(svc *corev1.Service) { svc.Annotations = map[string]string{"baremetal.cloud/pool": "pool-2"} })
		_, err := l.helm("upgrade", release, chartDir, "--values", both)
		require.NoError(t, err)
		upgraded := time.Now()
		require.Equal(t, l.chartPool(2).String(), l.address("waiting").String())
		require.Less(t, time.Since(upgraded), inUse)
		l.delete("waiting")
		require.Equal(t, filled, l.filledObjects())
	})
	t.Run("rollback", func(t *testing.T) {
		l := l.with(t)
		_, err := l.helm("rollback", release, "1", "--wait")
		require.NoError(t, err)
		require.NotContains(t, l.config(), "pool-2")
		require.Equal(t, filled, l.filledObjects())
		l.stays(address, mac)
	})
	t.Run("upgrade with --force", func(t *testing.T) {
		l := l.with(t)
		_, err := l.helm("upgrade", release, chartDir, "--values", both, "--force", "--wait")
		require.NoError(t, err)
		require.Contains(t, l.config(), "pool-2")
		require.Equal(t, filled, l.filledObjects())
		l.stays(address, mac)
	})
	t.Run("uninstall", func(t *testing.T) {
		l := l.with(t)
		_, err := l.helm("uninstall", release, "--wait")
		require.NoError(t, err)
		svc := l.get("held")
		require.Empty(t, svc.Finalizers)
		require.Empty(t, svc.Status.LoadBalancer.Ingress)
		require.Empty(t, svc.Status.Conditions)
		require.Equal(t, filled, l.filledObjects())
		require.Empty(t, l.leftOvers())
		l.silent(address)
	})
	t.Run("install again by another name", func(t *testing.T) {
		l := l.with(t)
		_, err := l.helm("install", "again", chartDir, "--values", first)
		require.NoError(t, err)
		l.addressOwner(l.address("held"))
		require.Equal(t, filled, l.filledObjects())
	})
}

// helm runs the real Helm as the administrator, in our namespace.
func (l *lab) helm(args ...string) (string, error) {
	l.Helper()
	command := exec.CommandContext(l.Context(), filepath.Join(l.c.BinDir, "helm"), append(args, "--namespace", system, "--kubeconfig", l.c.HostKubeconfig())...)
	home := l.TempDir()
	command.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return stdout.String(), fmt.Errorf("helm %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// notesFollowTheCluster: the notes warn where there is no pool, and are silent about labels that are there.
func (l *lab) notesFollowTheCluster() {
	l.Helper()
	_, err := l.c.Kubectl(l.Context(), "label", "namespace", system, "pod-security.kubernetes.io/enforce=privileged")
	require.NoError(l, err)
	out, err := l.helm("upgrade", release, chartDir, "--reset-values", "--dry-run=server")
	require.NoError(l, err)
	_, notes, found := strings.Cut(out, "NOTES:")
	require.True(l, found)
	require.Contains(l, notes, "NO POOL")
	require.NotContains(l, notes, "kubectl label namespace")
	require.NotContains(l, notes, "k3s")
	require.Contains(l, notes, "leaves the Secret baremetal-ccm-tls")
	require.NotContains(l, out, "kind: Secret", "what is there is not made again")
}

// chartPool returns the only address of the i-th pool.
func (l *lab) chartPool(i int) netip.Addr {
	address := l.c.PoolV4().Addr()
	for range i {
		address = address.Next()
	}
	return address
}

// chartValues writes values with so many pools. There is no DNS in a testbed: announcers get the addresses of
// the replicas.
func (l *lab) chartValues(pools int) string {
	l.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "config:\n  failover: %s\n  pools:\n", slowFailover)
	for i := range pools {
		fmt.Fprintf(&text, "  - {name: pool-%d, addresses: [%s], l2: [{interface: eth0}]}\n", i+1, l.chartPool(i+1))
	}
	var replicas []string
	for _, node := range l.nodes() {
		replicas = append(replicas, l.c.Address(node).V4.String()+":10270")
	}
	fmt.Fprintf(&text, "announcer:\n  extraArgs: [\"--controllers=%s\"]\n", strings.Join(replicas, ","))
	path := filepath.Join(l.TempDir(), "values.yaml")
	require.NoError(l, os.WriteFile(path, []byte(text.String()), 0o600))
	return path
}

// config returns the text of the cloud-config in the cluster.
func (l *lab) config() string {
	l.Helper()
	config, err := l.client.CoreV1().ConfigMaps(system).Get(l.Context(), "baremetal-cloud-config", metav1.GetOptions{})
	require.NoError(l, err)
	return config.Data["cloud-config.yaml"]
}

// filledObjects returns what must outlive everything, by name: which object it is, and of the Secret and the CA the
// data too. The last good cloud-config and the Lease change, as they should.
func (l *lab) filledObjects() map[string]string {
	l.Helper()
	secret, err := l.client.CoreV1().Secrets(system).Get(l.Context(), "baremetal-ccm-tls", metav1.GetOptions{})
	require.NoError(l, err)
	require.Contains(l, secret.Data, "ca.key")
	require.Contains(l, secret.Data, "failover.key")
	ca, err := l.client.CoreV1().ConfigMaps(system).Get(l.Context(), "baremetal-ccm-ca", metav1.GetOptions{})
	require.NoError(l, err)
	require.NotEmpty(l, ca.Data)
	good, err := l.client.CoreV1().ConfigMaps(system).Get(l.Context(), "baremetal-cloud-config-last-good", metav1.GetOptions{})
	require.NoError(l, err)
	require.NotEmpty(l, good.Data)
	lease, err := l.client.CoordinationV1().Leases(system).Get(l.Context(), "baremetal-ccm", metav1.GetOptions{})
	require.NoError(l, err)
	return map[string]string{
		secret.Name: string(secret.UID) + fmt.Sprint(secret.Data),
		ca.Name:     string(ca.UID) + fmt.Sprint(ca.Data),
		good.Name:   string(good.UID),
		lease.Name:  string(lease.UID),
	}
}

// leftOvers returns what an uninstall should have deleted and has not, once what ends by itself has had time to.
func (l *lab) leftOvers() []string {
	l.Helper()
	var left []string
	l.eventually(func(t *assert.CollectT) {
		out, err := l.c.Kubectl(l.Context(), "--namespace", system, "get", "--ignore-not-found", "--output", "name",
			"deployments,daemonsets,jobs,pods,services,roles,rolebindings,poddisruptionbudgets,serviceaccounts,configmaps,secrets")
		require.NoError(t, err)
		cluster, err := l.c.Kubectl(l.Context(), "get", "--output", "name", "clusterroles,clusterrolebindings")
		require.NoError(t, err)
		left = nil
		for name := range strings.FieldsSeq(out + cluster) {
			_, short, _ := strings.Cut(name, "/")
			if strings.HasPrefix(short, "baremetal-") && !slices.Contains(slices.Collect(maps.Keys(l.filledObjects())), short) {
				left = append(left, name)
			}
		}
		require.Empty(t, left)
	}, "left over")
	return left
}
