//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

const (
	ownClass = "baremetal.cloud/lb"
	holding  = "example.org/hold"
)

// TestFault_K3_3_ReleaseOnTheTestbed asks from outside what a released address answers, and
// shows K3.4 to K3.6 on the same testbed.
func TestFault_K3_3_ReleaseOnTheTestbed(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 2, Proxy: "nftables", Mgmt: "lan"})
	for _, c := range []struct {
		name string
		play func(*lab)
	}{
		{"K3.4 the cloud-config by a watch", (*lab).configWatched},
		{"K3.3 deleted while another finalizer holds it", (*lab).heldByAnother},
		{"K3.3 the class leaves the cloud-config", (*lab).classLeaves},
		{"K3.5 and K3.6 a class is taken over", (*lab).classTakenOver},
	} {
		t.Run(c.name, func(t *testing.T) { c.play(l.with(t)) })
	}
}

// classConfig is a cloud-config that serves a class beside none.
func (l *lab) classConfig(class, onShrink string) string {
	text := fmt.Sprintf("apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\nfailover: %s\nonShrink: %s\npools:\n- name: default\n  addresses: [%s-%s]\n",
		slowFailover, onShrink, l.poolAddress(0), l.poolAddress(99))
	if class != "" {
		text += "loadBalancerClasses: [" + class + "]\n"
	}
	return text
}

func (l *lab) poolAddress(n int) netip.Addr { return plus(l.c.PoolV4().Addr(), n) }

// inUse writes a cloud-config and waits until it is in use; it returns how long that took.
func (l *lab) inUse(text string) time.Duration {
	l.Helper()
	began := time.Now()
	l.configure(text)
	l.configured(func(t require.TestingT, kept string) { require.Equal(t, text, kept) })
	return time.Since(began)
}

func ofClass(class, node string, port int32, address netip.Addr) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		keyed("", node, port)(svc)
		svc.Annotations = map[string]string{}
		if address.IsValid() {
			svc.Annotations["baremetal.cloud/addresses"] = address.String()
		}
		if class != "" {
			svc.Spec.LoadBalancerClass = &class
		}
	}
}

// onlyBy asks an address many times: no request may reach the Pod of another node.
func (l *lab) onlyBy(address netip.Addr, port int, node string) {
	l.Helper()
	l.servedBy(address, port, node)
	for range 24 {
		body, err := l.c.Curl(l.Context(), fmt.Sprintf("http://%s/", net.JoinHostPort(address.String(), fmt.Sprint(port))))
		require.NoError(l, err)
		require.True(l, strings.HasPrefix(body, "web-"+node+"-"), "answered by %q", body)
	}
}

// bare waits until a Service that is still there shows nothing of ours.
func (l *lab) bare(name string) {
	l.Helper()
	l.eventually(func(t *assert.CollectT) {
		svc := l.get(name)
		require.Empty(t, svc.Status.LoadBalancer.Ingress)
		require.NotContains(t, svc.Finalizers, "baremetal.cloud/load-balancer-cleanup")
		require.False(t, slices.ContainsFunc(svc.Status.Conditions, func(c metav1.Condition) bool {
			return strings.HasPrefix(c.Type, "baremetal.cloud/")
		}), "%v", svc.Status.Conditions)
	}, "Service %s", name)
}

// heldByAnother deletes a Service, with a class and without, that the finalizer of another
// holds: its heir alone is reached by the address.
func (l *lab) heldByAnother() {
	l.Helper()
	l.inUse(l.classConfig(ownClass, "Refuse"))
	for i, class := range []string{ownClass, ""} {
		old, heir := fmt.Sprint("old", i), fmt.Sprint("heir", i)
		l.create(old, ofClass(class, "node1", 80, l.poolAddress(10+i)))
		address := l.address(old)
		l.onlyBy(address, 80, "node1")
		l.change(old, func(svc *corev1.Service) { svc.Finalizers = append(svc.Finalizers, holding) })
		require.NoError(l, l.client.CoreV1().Services("default").Delete(l.Context(), old, metav1.DeleteOptions{}))
		l.create(heir, ofClass(class, "node2", 80, address))
		require.Equal(l, address, l.address(heir))
		l.bare(old)
		l.onlyBy(address, 80, "node2")
		l.change(old, func(svc *corev1.Service) {
			svc.Finalizers = slices.DeleteFunc(svc.Finalizers, func(f string) bool { return f == holding })
		})
		l.delete(heir)
	}
}

// classLeaves takes a class out of the cloud-config: refused, and with onShrink: Reassign
// the address leaves the Service before another one gets it.
func (l *lab) classLeaves() {
	l.Helper()
	l.inUse(l.classConfig(ownClass, "Refuse"))
	l.create("classed", ofClass(ownClass, "node1", 80, l.poolAddress(20)))
	address := l.address("classed")
	l.configure(l.classConfig("", "Refuse"))
	l.toldOf(system, "baremetal-cloud-config", "CloudConfigRefused", "default/classed of class "+ownClass)
	require.Equal(l, address, l.published("classed"))
	l.onlyBy(address, 80, "node1")

	l.create("heir", ofClass("", "node2", 80, address))
	l.inUse(l.classConfig("", "Reassign"))
	require.Equal(l, address, l.address("heir"))
	l.bare("classed")
	l.onlyBy(address, 80, "node2")
	require.NoError(l, l.client.CoreV1().Services("default").Delete(l.Context(), "classed", metav1.DeleteOptions{}))
	l.delete("heir")
}

// classTakenOver serves the class of another controller, whose Services have addresses.
func (l *lab) classTakenOver() {
	l.Helper()
	l.inUse(l.classConfig(ownClass, "Refuse"))
	const metallb = "metallb.io/lb"
	shared := func(node string, port int32) func(*corev1.Service) {
		return func(svc *corev1.Service) {
			ofClass(metallb, node, port, netip.Addr{})(svc)
			svc.Annotations["metallb.io/allow-shared-ip"] = "pair"
		}
	}
	l.create("single", ofClass(metallb, "node1", 80, netip.Addr{}))
	l.create("pair-a", shared("node1", 80))
	l.create("pair-b", shared("node2", 81))
	l.create("outside", ofClass(metallb, "node1", 80, netip.Addr{}))
	statuses := map[string]netip.Addr{"single": l.poolAddress(30), "pair-a": l.poolAddress(40), "pair-b": l.poolAddress(40), "outside": l.poolAddress(150)}
	for name, address := range statuses {
		body := fmt.Sprintf(`{"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, address)
		_, err := l.client.CoreV1().Services("default").Patch(l.Context(), name, types.MergePatchType, []byte(body), metav1.PatchOptions{}, "status")
		require.NoError(l, err)
	}
	l.inUse(l.classConfig(metallb, "Refuse"))
	l.says("single", "baremetal.cloud/Allocated", "Allocated")
	for _, name := range []string{"pair-a", "pair-b"} {
		l.says(name, "baremetal.cloud/Allocated", "SharingKeyMissing")
		l.told(name, "SharingKeyMissing", "annotate both with baremetal.cloud/sharing-key: pair")
	}
	for _, name := range []string{"single", "pair-a", "pair-b"} {
		require.Equal(l, statuses[name], l.published(name))
	}
	l.onlyBy(statuses["single"], 80, "node1")
	l.onlyBy(statuses["pair-a"], 80, "node1")
	l.onlyBy(statuses["pair-b"], 81, "node2")
	l.eventually(func(t *assert.CollectT) { require.True(t, l.published("outside").Less(l.poolAddress(100))) }, "it gets an address of a pool")
	for name := range statuses {
		l.delete(name)
	}
}

// configWatched shows that a change is in use soon, that a leader which begins later reverts
// nothing, and that a ConfigMap which was deleted takes nothing away.
func (l *lab) configWatched() {
	l.Helper()
	took := l.inUse(l.classConfig(ownClass, "Refuse"))
	l.Logf("a changed ConfigMap was in use after %s", took.Round(time.Millisecond))
	require.Less(l, took, 10*time.Second, "a kubelet's mount takes longer")

	l.create("keeps", ofClass(ownClass, "node1", 80, l.poolAddress(5)))
	address := l.address("keeps")
	configMaps := l.client.CoreV1().ConfigMaps(system)
	before, err := configMaps.Get(l.Context(), "baremetal-cloud-config", metav1.GetOptions{})
	require.NoError(l, err)
	require.NoError(l, configMaps.Delete(l.Context(), before.Name, metav1.DeleteOptions{}))
	node := l.nodeOfReplica(l.leader(""))
	l.stop("ccm:" + node)
	l.create("later", ofClass("", "node1", 80, netip.Addr{}))
	require.True(l, l.address("later").Less(l.poolAddress(100)), "the last good one is in use")
	require.Equal(l, address, l.published("keeps"))
	l.start("ccm:" + node)

	created := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: before.Name, Labels: before.Labels, Annotations: before.Annotations}, Data: before.Data}
	_, err = configMaps.Create(l.Context(), created, metav1.CreateOptions{})
	require.NoError(l, err)
	l.inUse(l.classConfig(ownClass, "Refuse") + "# made anew\n")
	l.delete("later")
	l.delete("keeps")
}
