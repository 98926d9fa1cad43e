package cloud

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/reason"
)

func keyed(key string, port int32) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations[AnnotationSharingKey] = key
		svc.Spec.Ports = []corev1.ServicePort{{Port: port}}
	}
}

// Row IP7: an edit that makes a clash is told of on both Services, in Events too, and each
// keeps its address, with the next leader too and whatever else is refused meanwhile. Of a
// port that both use the older one's counts: kube-proxy is to leave the younger one alone.
func TestClashByEdit(t *testing.T) {
	c := start(t)
	require.NoError(t, c.create(loadBalancer("one", keyed("k", 80))))
	require.NoError(t, c.create(loadBalancer("two", keyed("k", 81))))
	c.published("one", "10.0.0.0")
	c.published("two", "10.0.0.0")
	c.says("one", ConditionShared, reason.Allocated)
	c.says("two", ConditionShared, reason.Allocated)

	c.edit("two", keyed("other", 80))
	c.says("one", ConditionAllocated, reason.SharingClash)
	c.says("two", ConditionAllocated, reason.SharingClash)
	const kept = "SharingClash: address 10.0.0.0 is kept although it clashes with Service default/"
	c.told(kept + "two: the sharing keys differ; this one is older and is served there, the other one is not; undo the edit, or give one of them an address of its own")
	c.told(kept + "one: the sharing keys differ; that one is older and is served there, this one is not; undo the edit, or give one of them an address of its own")
	c.mode("one", corev1.LoadBalancerIPModeVIP)
	c.mode("two", corev1.LoadBalancerIPModeProxy)
	c.edit("two", keyed("other", 81))
	c.mode("two", corev1.LoadBalancerIPModeVIP)
	c.told(kept + "one: the sharing keys differ; both are served, as their ports differ; undo the edit, or give one of them an address of its own")
	c.edit("two", keyed("other", 80))
	c.mode("two", corev1.LoadBalancerIPModeProxy)
	c.edit("two", func(svc *corev1.Service) { svc.Annotations[AnnotationAddresses] = "192.0.2.1" })
	c.says("two", ConditionAllocated, reason.AddressOutsidePools)
	c.says("two", ConditionShared, reason.SharingClash)

	next := start(t, c.service("one"), c.service("two"))
	next.says("one", ConditionAllocated, reason.SharingClash)
	next.published("one", "10.0.0.0")
	next.published("two", "10.0.0.0")
	next.mode("one", corev1.LoadBalancerIPModeVIP)
	next.mode("two", corev1.LoadBalancerIPModeProxy)

	next.deleting("two")
	require.NoError(t, next.p.EnsureLoadBalancerDeleted(t.Context(), "", next.service("two")))
	require.Eventually(t, func() bool { return conditionOf(next.service("one"), ConditionShared) == nil }, waitAtMost, 5*time.Millisecond)
	next.says("one", ConditionAllocated, reason.Allocated)
}

// mode waits until the Service's only address is published in that mode.
func (c *cluster) mode(name string, want corev1.LoadBalancerIPMode) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		entries := c.service(name).Status.LoadBalancer.Ingress
		require.Len(t, entries, 1)
		require.Equal(t, want, *entries[0].IPMode)
	}, waitAtMost, 5*time.Millisecond)
}

// edit changes a Service as its user would.
func (c *cluster) edit(name string, change func(*corev1.Service)) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		svc := c.service(name)
		change(svc)
		_, err := c.client.CoreV1().Services("default").Update(c.t.Context(), svc, metav1.UpdateOptions{})
		return err == nil
	}, waitAtMost, time.Millisecond)
}
