package cloud

import (
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/pkg/reason"
)

// TestIP22AnyOrderOfCases plays cases of one Service in random order through the provider
// and the controller. Each ends the same way whatever came before: published are exactly its
// addresses, or its condition says why not and what was published stays.
func TestIP22AnyOrderOfCases(t *testing.T) {
	c := start(t)
	require.NoError(t, c.create(loadBalancer("other")))
	annotated := func(key, value string) func(*corev1.Service) {
		return func(svc *corev1.Service) { svc.Annotations[key] = value }
	}
	cases := []struct {
		name string
		edit func(*corev1.Service)
		want []string // or refused:
		why  reason.Reason
	}{
		{"by address", annotated(AnnotationAddresses, "10.0.0.2"), []string{"10.0.0.2"}, ""},
		{"by spec", func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = "10.0.0.3" }, []string{"10.0.0.3"}, ""},
		{"two families", func(svc *corev1.Service) {
			svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
			svc.Annotations[AnnotationAddresses] = "10.0.0.3,2001:db8::3"
		}, []string{"10.0.0.3", "2001:db8::3"}, ""},
		{"in use", annotated(AnnotationAddresses, "10.0.0.0"), nil, reason.AddressInUse},
		{"outside", annotated(AnnotationAddresses, "192.0.2.1"), nil, reason.AddressOutsidePools},
		{"garbage", annotated(AnnotationAddresses, "garbage"), nil, reason.RequestInvalid},
		{"no pool", annotated(AnnotationPool, "none"), nil, reason.PoolUnknown},
		{"no load balancer", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP }, []string{}, ""},
	}
	require.NoError(t, c.create(loadBalancer("web")))
	c.published("web", "10.0.0.1")
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 22))
		for _, i := range random.Perm(len(cases)) {
			before := c.service("web").Status.LoadBalancer.Ingress
			c.edit("web", func(svc *corev1.Service) {
				svc.Spec = loadBalancer("web").Spec
				svc.Annotations = map[string]string{}
				cases[i].edit(svc)
			})
			c.stock("web")
			if cases[i].want != nil {
				c.published("web", cases[i].want...)
				continue
			}
			c.says("web", ConditionAllocated, cases[i].why)
			require.Equal(t, before, c.service("web").Status.LoadBalancer.Ingress, "seed %d, %s", seed, cases[i].name)
		}
	}
	c.published("other", "10.0.0.0")
	c.says("other", ConditionAllocated, reason.Allocated)
}

// stock does what the stock service controller does once it has seen the Service as it is.
func (c *cluster) stock(name string) {
	c.t.Helper()
	now := c.service(name)
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		seen, err := c.p.listers.services.Services("default").Get(name)
		require.NoError(t, err)
		require.Equal(t, now.Spec, seen.Spec)
		require.True(t, maps.Equal(now.Annotations, seen.Annotations))
	}, waitAtMost, time.Millisecond)
	if now.Spec.Type != corev1.ServiceTypeLoadBalancer {
		require.NoError(c.t, c.p.EnsureLoadBalancerDeleted(c.t.Context(), "", now))
		require.Eventually(c.t, func() bool {
			return !c.knows(string(now.UID)) && conditionOf(c.service(name), ConditionAllocated) == nil
		}, waitAtMost, time.Millisecond)
		// A real API server empties the status with the type.
		c.edit(name, func(svc *corev1.Service) { svc.Status.LoadBalancer = corev1.LoadBalancerStatus{} })
		return
	}
	_, _ = c.p.EnsureLoadBalancer(c.t.Context(), "", now, nil) // a refusal is in the condition
}
