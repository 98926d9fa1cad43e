//go:build e2e

package e2e

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// TestNodeHealth: a node answers where traffic is served. Its kube-proxy stops, or the node is
// cordoned, and its addresses go to others; where there are no others they stay.
func TestNodeHealth(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 3, Proxy: "nftables", Mgmt: "lan"})
	l.configureMore("nodeHealth: {unwellAfter: 4s, drainOnCordon: true}\n")
	l.create("web", nil)
	address := l.address("web")
	l.requested(address)

	t.Run("kube-proxy of the owner stops", func(t *testing.T) { l.with(t).proxyStops("web", address) })
	t.Run("cordon", func(t *testing.T) { l.with(t).cordoned(address) })
	t.Run("Local goes where it is served", func(t *testing.T) { l.with(t).servedLocally() })
	t.Run("all kube-proxies stop", func(t *testing.T) { l.with(t).allProxiesStop("web", address) })
}

// configureMore adds text to the cloud-config, and waits until it is in use.
func (l *lab) configureMore(text string) {
	l.Helper()
	l.editConfig(func(before string) string { return before + text })
	l.configured(func(t require.TestingT, now string) { require.True(t, strings.HasSuffix(now, text)) })
}

// proxyStops stops the owner's kube-proxy: after a while another node answers, and requests
// succeed there.
func (l *lab) proxyStops(service string, address netip.Addr) {
	l.Helper()
	owner := l.nodeOf(l.addressOwner(address))
	began := time.Now()
	l.stop("kube-proxy:" + owner)
	l.eventuallyAnsweredByAnother(address, owner)
	l.Logf("%s is unhealthy: another answers after %s", owner, time.Since(began).Round(time.Millisecond))
	l.requested(address)
	l.told(service, "Announced", "after node "+owner+" (KubeProxyUnhealthy")
	now := l.addressOwner(address)
	l.start("kube-proxy:" + owner)
	l.stays(address, now)
	l.says(service, "baremetal.cloud/Announced", "Announced")
}

// cordoned cordons the owner: another node answers, and goes on when it is uncordoned.
func (l *lab) cordoned(address netip.Addr) {
	l.Helper()
	owner := l.nodeOf(l.addressOwner(address))
	_, err := l.c.Kubectl(l.Context(), "cordon", owner)
	require.NoError(l, err)
	l.eventuallyAnsweredByAnother(address, owner)
	l.requested(address)
	now := l.addressOwner(address)
	_, err = l.c.Kubectl(l.Context(), "uncordon", owner)
	require.NoError(l, err)
	l.stays(address, now)
}

// servedLocally: every node has an endpoint and only one a kube-proxy that writes rules for
// the new Services. It answers, whoever the plan puts first.
func (l *lab) servedLocally() {
	l.Helper()
	nodes := l.nodes()
	working := nodes[0]
	for _, node := range nodes[1:] {
		l.stop("kube-proxy:" + node)
	}
	names := []string{"local1", "local2", "local3"}
	for _, name := range names {
		l.create(name, func(svc *corev1.Service) {
			svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		})
		address := l.address(name)
		l.eventually(func(t *assert.CollectT) {
			require.Equal(t, []string{l.c.NodeMAC(working)}, l.addressOwners(address))
		}, "%s is not answered by %s alone", address, working)
		l.requested(address)
	}
	for _, node := range nodes[1:] {
		l.start("kube-proxy:" + node)
	}
	for _, name := range names {
		l.delete(name)
	}
}

// allProxiesStop: nobody is well, so nothing moves, and the condition says why.
func (l *lab) allProxiesStop(service string, address netip.Addr) {
	l.Helper()
	now := l.addressOwner(address)
	for _, node := range l.nodes() {
		l.stop("kube-proxy:" + node)
	}
	l.eventually(func(t *assert.CollectT) {
		c := meta.FindStatusCondition(l.get(service).Status.Conditions, "baremetal.cloud/Announced")
		require.NotNil(t, c)
		require.Equal(t, metav1.ConditionTrue, c.Status)
		require.Contains(t, c.Message, "(kube-proxy of node "+l.nodeOf(now)+" does not work, but no other node may take it)")
	})
	l.stays(address, now)
	l.requested(address)
	for _, node := range l.nodes() {
		l.start("kube-proxy:" + node)
	}
	l.eventually(func(t *assert.CollectT) {
		c := meta.FindStatusCondition(l.get(service).Status.Conditions, "baremetal.cloud/Announced")
		require.NotContains(t, c.Message, "does not work")
	})
	l.stays(address, l.addressOwner(address))
}
