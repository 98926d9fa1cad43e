//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// TestCloudConfigTrouble shows promise 8 on the whole program: a bad cloud-config changes
// nothing, in the process that runs and in the next one.
func TestCloudConfigTrouble(t *testing.T) {
	w := up(t, testbed.Options{Nodes: 1, Proxy: "nftables", Mgmt: "lan"}).witness()
	for _, c := range []struct {
		name string
		play func(*witness)
	}{
		{"changed while it is read", (*witness).configSwapped},
		{"IP18 shrunk around a holder, and the leader changes", (*witness).configShrunk},
		{"bad at start with a last good one", (*witness).configBadAtStart},
		{"IP12 a Service that waits is served when an address is there", (*witness).waiting},
		{"IP18 and IP19 a reload moves nobody but where it is told to", (*witness).configMoves},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := w.with(t)
			w.note("%s", c.name)
			c.play(w)
			w.settled()
		})
	}
}

// pool returns a cloud-config with that pool of IPv4 addresses, by their place in the
// testbed's pool.
func (w *witness) pool(first, last int) string {
	v4 := w.c.PoolV4().Addr()
	return fmt.Sprintf("apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\nfailover: %s\npools:\n- name: default\n  addresses: [%s-%s]\n  l2: [{interface: eth0}]\n",
		slowFailover, plus(v4, first), plus(v4, last))
}

// configure writes the cloud-config.
func (l *lab) configure(text string) {
	l.Helper()
	l.editConfig(func(string) string { return text })
}

// editConfig replaces the cloud-config by what edit makes of it.
func (l *lab) editConfig(edit func(text string) string) {
	l.Helper()
	const key = "cloud-config.yaml"
	configMaps := l.client.CoreV1().ConfigMaps(system)
	require.NoError(l, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		configMap, err := configMaps.Get(l.Context(), "baremetal-cloud-config", metav1.GetOptions{})
		if err != nil {
			return err
		}
		configMap.Data = map[string]string{key: edit(configMap.Data[key])}
		_, err = configMaps.Update(l.Context(), configMap, metav1.UpdateOptions{})
		return err
	}))
}

// configured waits until the cloud-config in use passes check.
func (l *lab) configured(check func(t require.TestingT, text string)) {
	l.Helper()
	l.eventually(func(t *assert.CollectT) {
		kept, err := l.client.CoreV1().ConfigMaps(system).Get(l.Context(), "baremetal-cloud-config-last-good", metav1.GetOptions{})
		require.NoError(t, err)
		check(t, kept.Data["cloud-config.yaml"])
	}, "the cloud-config is not in use")
}

// used waits until the leader uses that cloud-config.
func (w *witness) used(text string) {
	w.Helper()
	w.eventually(func(t *assert.CollectT) {
		config := w.recorder.History().Config()
		require.NotNil(t, config)
		require.Equal(t, text, config.Text)
	}, "cloud-config in use")
}

// refusals returns the messages of the Events about refused cloud-configs.
func (w *witness) refusals() []string {
	w.Helper()
	events, err := w.client.CoreV1().Events(system).List(w.Context(), metav1.ListOptions{FieldSelector: "reason=CloudConfigRefused"})
	require.NoError(w, err)
	var out []string
	for _, e := range events.Items {
		out = append(out, e.Message)
	}
	return out
}

// configSwapped changes the ConfigMap many times, faster than it is looked at. The newest
// text is used in the end, and nothing else than what was written is ever seen.
func (w *witness) configSwapped() {
	w.Helper()
	w.create("web", nil)
	address := w.address("web")
	for i := range 200 {
		w.configure(w.pool(0, 10+i%2*500))
	}
	w.used(w.pool(0, 510))
	require.Empty(w, w.refusals())
	require.Equal(w, address, w.published("web"))
	w.delete("web")
}

// configShrunk leaves a holder out: refused with its name, by the next leader too, and
// the address is answered all the while. Once the holder is gone the file is used.
func (w *witness) configShrunk() {
	w.Helper()
	w.create("web", nil)
	address := w.address("web")
	owner := w.addressOwner(address)
	grown, shrunk := w.pool(0, 510), w.pool(600, 610)
	w.configure(shrunk)
	w.eventually(func(t *assert.CollectT) {
		require.Contains(t, strings.Join(w.refusals(), "\n"), "default/web")
	}, "no Event names the holder")
	require.Equal(w, "0", w.metric("baremetal_ccm_cloud_config_valid"))
	w.stop("ccm")
	w.start("ccm")
	w.create("other", nil)
	require.True(w, w.address("other").Less(plus(w.c.PoolV4().Addr(), 511)), "the last good cloud-config is in use")
	w.used(grown)
	w.unchanged("web", address, owner)
	w.says("web", "baremetal.cloud/Announced", "Announced")
	w.delete("other")
	w.delete("web")
	w.used(shrunk)
	w.eventually(func(t *assert.CollectT) { require.Equal(t, "1", w.metric("baremetal_ccm_cloud_config_valid")) })
}

// configBadAtStart starts the CCM with a file that cannot be read: it uses the last good
// one, and says so in its log, in an Event and in a metric, until the file is good again.
func (w *witness) configBadAtStart() {
	w.Helper()
	good := w.recorder.History().Config().Text
	w.create("web", nil)
	address := w.address("web")
	w.stop("ccm")
	w.configure("apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\npools: []\nbroken: true\n")
	w.start("ccm")
	w.create("meanwhile", nil)
	w.address("meanwhile")
	require.Equal(w, address, w.published("web"))
	w.eventually(func(t *assert.CollectT) {
		require.Contains(t, strings.Join(w.refusals(), "\n"), "broken")
		require.Equal(t, "0", w.metric("baremetal_ccm_cloud_config_valid"))
	})
	require.Contains(w, w.log(), "going on with the last good one")
	w.configure(good + "# mended\n")
	w.used(good + "# mended\n")
	require.Equal(w, "1", w.metric("baremetal_ccm_cloud_config_valid"))
	w.delete("meanwhile")
	w.delete("web")
}

// metric returns the value of a metric of the leader, which asks who wants to know.
func (l *lab) metric(name string) string {
	l.Helper()
	require.NoError(l, l.c.Apply(l.Context(), metricsReader))
	token, err := l.c.Kubectl(l.Context(), "create", "token", "metrics-reader", "--namespace", "default")
	require.NoError(l, err)
	node := l.nodeOfReplica(l.leader(""))
	text, err := l.c.In(l.Context(), node, "curl", "--silent", "--show-error", "--insecure", "--max-time", "5",
		"--header", "Authorization: Bearer "+strings.TrimSpace(token), "https://127.0.0.1:10273/metrics")
	require.NoError(l, err, text)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	require.Fail(l, "no such metric", "%s in\n%.2000s", name, text)
	return ""
}

const metricsReader = `apiVersion: v1
kind: ServiceAccount
metadata: {name: metrics-reader, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: metrics-reader}
rules:
- nonResourceURLs: [/metrics]
  verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: metrics-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: metrics-reader}
subjects:
- {kind: ServiceAccount, name: metrics-reader, namespace: default}
`

// log returns what the replicas of the CCM have written.
func (w *witness) log() string { w.Helper(); return w.ccmLog() }
