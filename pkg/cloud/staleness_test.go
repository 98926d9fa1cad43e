package cloud

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"baremetal.cloud/ccm/pkg/reason"
)

// oneAddress leaves nothing for a second Service.
const oneAddress = `apiVersion: baremetal.cloud/v1alpha1
kind: CloudConfig
loadBalancerClasses: [baremetal.cloud/lb]
pools:
- name: default
  addresses: [10.0.0.0/32]
`

// silently has watches of those resources tell nothing, as over a connection that is dead
// and has not been found out.
func silently(resources ...string) func(*fake.Clientset) {
	return func(client *fake.Clientset) {
		for _, resource := range resources {
			client.PrependWatchReactor(resource, func(clienttesting.Action) (bool, watch.Interface, error) {
				return true, watch.NewRaceFreeFake(), nil
			})
		}
	}
}

// link is the connection on which one kind of objects is listed and watched.
type link struct {
	down   atomic.Bool
	stream atomic.Pointer[watch.RaceFreeFakeWatcher]
}

// of has the fake API server serve a kind on the link.
func (l *link) of(resource string) func(*fake.Clientset) {
	refused := errors.New("connection refused")
	return func(client *fake.Clientset) {
		client.PrependReactor("list", resource, func(clienttesting.Action) (bool, runtime.Object, error) {
			return l.down.Load(), nil, refused
		})
		client.PrependWatchReactor(resource, func(action clienttesting.Action) (bool, watch.Interface, error) {
			if l.down.Load() {
				return true, nil, refused
			}
			w, err := client.Tracker().Watch(action.GetResource(), action.GetNamespace(), action.(clienttesting.WatchActionImpl).ListOptions)
			if err == nil {
				l.stream.Store(w.(*watch.RaceFreeFakeWatcher))
			}
			return true, w, err
		})
	}
}

// cut breaks the watch, and no other one begins before mend.
func (l *link) cut() {
	l.down.Store(true)
	l.stream.Load().Stop()
}

func (l *link) mend() { l.down.Store(false) }

// K3.1: the watches of a standby showed nothing of a Service that the leader before gave an
// address, nor that another one became a load balancer. It neither renumbers nor forgets
// them when it leads, although a third one waits.
func TestFault_K3_1_StandbyThatSawNothing(t *testing.T) {
	turned := loadBalancer("turned", withStatus(), func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
	c, lead := standby(t, pools, time.Now, silently("services", "nodes", "endpointslices", "namespaces"), turned, loadBalancer("gone", withStatus("10.0.0.2")))
	<-c.p.Warm()
	services := c.client.CoreV1().Services("default")
	for _, svc := range []*corev1.Service{loadBalancer("new", withStatus("10.0.0.0")), loadBalancer("old", withStatus("10.0.0.3")), loadBalancer("waiting")} {
		_, err := services.Create(t.Context(), svc, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	_, err := services.Update(t.Context(), loadBalancer("turned", withStatus("10.0.0.1")), metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, services.Delete(t.Context(), "gone", metav1.DeleteOptions{}))
	_, err = c.client.DiscoveryV1().EndpointSlices("default").Create(t.Context(), endpointsFor("new"), metav1.CreateOptions{})
	require.NoError(t, err)
	lead()
	c.acknowledge("10.0.0.0") // its endpoint was not seen either
	c.says("new", ConditionAnnounced, reason.Announced)
	c.says("turned", ConditionAllocated, reason.Allocated)
	c.says("waiting", ConditionAllocated, reason.Allocated)
	c.published("new", "10.0.0.0")
	c.published("turned", "10.0.0.1")
	c.published("waiting", "10.0.0.2") // what no live Service holds
	c.published("old", "10.0.0.3")
}

// K3.1: a cache that has lost a Service which the API server has is no ground to free its
// address. One that is really gone is let go of.
func TestFault_K3_1_AbsenceIsConfirmed(t *testing.T) {
	var services link
	c, lead := standby(t, oneAddress, time.Now, services.of("services"), loadBalancer("web", withStatus("10.0.0.0")), loadBalancer("waiting"))
	lead()
	c.says("waiting", ConditionAllocated, reason.PoolExhausted)
	web := c.service("web")
	require.Eventually(t, func() bool {
		// Again, until the cache lacks it: a list that was just asked for ends the watch, or brings it back.
		services.stream.Load().Delete(web)
		return c.log.Count("is there after all") > 0
	}, waitAtMost, 50*time.Millisecond)
	c.published("web", "10.0.0.0")
	require.Empty(t, publishedAddresses(c.service("waiting")))

	require.NoError(t, c.client.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}))
	c.published("waiting", "10.0.0.0")
}

// K3.1: while a watch is broken nothing is released, not even for the stock controller,
// which reads the same cache.
func TestFault_K3_1_NothingIsReleasedWhileTheWatchIsBroken(t *testing.T) {
	var services link
	c, lead := standby(t, oneAddress, time.Now, services.of("services"), loadBalancer("web", withStatus("10.0.0.0")), loadBalancer("waiting"))
	lead()
	c.says("waiting", ConditionAllocated, reason.PoolExhausted)
	services.cut()
	require.Eventually(t, func() bool { return !c.p.services.Current() }, waitAtMost, 5*time.Millisecond)
	require.ErrorIs(t, c.p.EnsureLoadBalancerDeleted(t.Context(), "", c.service("web")), errBehind)
	require.True(t, c.knows("uid-web"))
	// Of most Services there is nothing to release, and nothing is tried again.
	none := loadBalancer("none", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
	require.NoError(t, c.p.retireService(t.Context(), none))

	// What the stock controller learns by the list that mends the watch does not fail.
	require.NoError(t, c.client.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}))
	web, err := c.p.listers.services.Services("default").Get("web")
	require.NoError(t, err)
	services.mend()
	require.NoError(t, c.p.EnsureLoadBalancerDeleted(t.Context(), "", web))
	c.published("waiting", "10.0.0.0")
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.True(t, c.p.services.Current())
	}, waitAtMost, 5*time.Millisecond)
}

// Two at once: the watch of EndpointSlices is broken alone. What is announced goes on being
// announced, new Services get addresses, no replica stands for election, and what changed
// meanwhile counts once the watch is back, in one piece.
func TestFault_K3_1_EndpointSlicesBrokenAlone(t *testing.T) {
	var endpoints link
	c, lead := standby(t, pools, time.Now, endpoints.of("endpointslices"), loadBalancer("web", withStatus("10.0.0.0")), endpointsFor("web"))
	lead()
	c.acknowledge("10.0.0.0")
	c.says("web", ConditionAnnounced, reason.Announced)
	endpoints.cut()
	require.Eventually(t, func() bool { return c.p.options.Watches.Steady(0) != nil }, waitAtMost, 5*time.Millisecond)
	slices := c.client.DiscoveryV1().EndpointSlices("default")
	require.NoError(t, slices.Delete(t.Context(), "web-slice", metav1.DeleteOptions{}))
	moved := endpointsFor("web")
	moved.Name = "web-other"
	_, err := slices.Create(t.Context(), moved, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, c.create(loadBalancer("new")))
	c.published("new", "10.0.0.1")
	c.says("web", ConditionAnnounced, reason.Announced)

	endpoints.mend()
	require.Eventually(t, func() bool { return c.p.options.Watches.Steady(0) == nil }, waitAtMost, 5*time.Millisecond)
	c.says("web", ConditionAnnounced, reason.Announced)
	require.NoError(t, slices.Delete(t.Context(), "web-other", metav1.DeleteOptions{}))
	c.says("web", ConditionAnnounced, reason.NoEndpoints)
}
