package cloud

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"baremetal.cloud/ccm/pkg/reason"
)

const foreignFinalizer = "example.org/other"

func withClass(class string) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &class }
}

func asksFor(address string) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Annotations[AnnotationAddresses] = address }
}

// deleting marks a Service as deleted, which a finalizer of another holds.
func (c *cluster) deleting(name string) {
	c.t.Helper()
	c.edit(name, func(svc *corev1.Service) {
		now := metav1.Now()
		svc.DeletionTimestamp = &now
		svc.Finalizers = append(svc.Finalizers, foreignFinalizer)
	})
}

// bare waits until nothing of ours is left on a Service.
func (c *cluster) bare(name string) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		svc := c.service(name)
		require.Empty(t, svc.Status.LoadBalancer.Ingress)
		require.Empty(t, svc.Status.Conditions)
		require.NotContains(t, svc.Finalizers, Finalizer)
		require.False(t, c.knows("uid-"+name))
	}, waitAtMost, 5*time.Millisecond)
}

// A classed Service that is deleted while the finalizer of another holds it keeps its
// address until its status shows it no more; the conditions end with it (K3.9).
func TestFault_K3_3_DeletedWhileAnotherFinalizerHolds(t *testing.T) {
	for name, address := range map[string]string{"IPv4": "10.0.0.0", "IPv6": "2001:db8::"} {
		t.Run(name, func(t *testing.T) {
			family := func(svc *corev1.Service) { svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPFamily(name)} }
			c := start(t)
			g := &gate{}
			c.react("patch", "services", g.react)
			require.NoError(t, c.create(loadBalancer("web", family, withClass("baremetal.cloud/lb"))))
			c.published("web", address)

			g.close("web")
			c.deleting("web")
			require.Error(t, c.create(loadBalancer("heir", family, asksFor(address))), "the status cannot be written")
			c.says("heir", ConditionAllocated, reason.AddressInUse)
			g.close("")
			c.published("heir", address)
			c.bare("web")
			require.Equal(t, []string{foreignFinalizer}, c.service("web").Finalizers)
		})
	}
}

// The same on the path of the stock controller: its call fails until the status is written.
func TestFault_K3_3_DeletedByTheStockController(t *testing.T) {
	c := start(t)
	g := &gate{}
	c.react("patch", "services", g.react)
	require.NoError(t, c.create(loadBalancer("web", func(svc *corev1.Service) { svc.Finalizers = []string{servicehelpers.LoadBalancerCleanupFinalizer} })))
	c.published("web", "10.0.0.0")
	c.deleting("web")

	g.close("web")
	outdated := loadBalancer("web") // as the stock controller may have it
	require.Error(t, c.p.EnsureLoadBalancerDeleted(t.Context(), "", outdated))
	require.True(t, c.knows("uid-web"))
	g.close("")
	require.NoError(t, c.p.EnsureLoadBalancerDeleted(t.Context(), "", outdated))
	c.bare("web")
	_ = c.create(loadBalancer("heir", asksFor("10.0.0.0"))) // our own controller may be at the same Service just now
	c.published("heir", "10.0.0.0")
}

// A cache that shows an older version releases nothing: the API server is asked.
func TestFault_K3_3_OutdatedVersionReleasesNothing(t *testing.T) {
	c := start(t)
	require.NoError(t, c.create(loadBalancer("web")))
	c.published("web", "10.0.0.0")
	var refused atomic.Bool
	c.react("patch", "services", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch, ok := action.(clienttesting.PatchAction)
		if !ok || string(patch.GetPatch()) == "{}" || refused.Swap(true) {
			return false, nil, nil
		}
		return true, nil, apierrors.NewConflict(corev1.Resource("services"), patch.GetName(), errors.New("modified"))
	})
	outdated := c.service("web")
	outdated.Spec.Type = corev1.ServiceTypeClusterIP
	require.NoError(t, c.p.releaseService(t.Context(), outdated))
	require.True(t, refused.Load())
	require.True(t, c.knows("uid-web"))
	c.published("web", "10.0.0.0")
}

// A class leaves the cloud-config only with the Services that have it; with Reassign their
// status is emptied before their addresses are free.
func TestFault_K3_3_ClassLeavesTheCloudConfig(t *testing.T) {
	for name, replacement := range map[string]string{"removed": "", "changed": "loadBalancerClasses: [example.org/lb]\n"} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			require.NoError(t, c.create(loadBalancer("web", withClass("baremetal.cloud/lb"))))
			c.published("web", "10.0.0.0")
			without := strings.ReplaceAll(pools, "loadBalancerClasses: [baremetal.cloud/lb]\n", replacement)
			require.NoError(t, os.WriteFile(c.path, []byte(without), 0o600))
			c.refused("default/web of class baremetal.cloud/lb")
			require.ErrorContains(t, c.create(loadBalancer("heir", asksFor("10.0.0.0"))), "is held by")
			c.published("web", "10.0.0.0")

			g := &gate{}
			c.react("patch", "services", g.react)
			g.close("web")
			reassign := strings.ReplaceAll(without, "Refuse", "Reassign")
			require.NoError(t, os.WriteFile(c.path, []byte(reassign), 0o600))
			c.inUse(reassign)
			c.says("heir", ConditionAllocated, reason.AddressInUse)
			require.Empty(t, publishedAddresses(c.service("heir")))
			g.close("")
			c.published("heir", "10.0.0.0")
			c.bare("web")
		})
	}
}

// What a status shows at the start is free only once it was written, although the Service
// was let go of: its finalizers are gone, or its class.
func TestFault_K3_3_ReleasedBeforeTheLeaderBegan(t *testing.T) {
	now := metav1.Now()
	deleted := loadBalancer("deleted", withStatus("10.0.0.0"), func(svc *corev1.Service) {
		svc.DeletionTimestamp, svc.Finalizers = &now, []string{foreignFinalizer}
	})
	unserved := loadBalancer("unserved", withStatus("10.0.0.1"), withClass("example.org/before"), func(svc *corev1.Service) {
		svc.Finalizers = []string{Finalizer, foreignFinalizer}
	})
	c := start(t, deleted, unserved)
	c.bare("deleted")
	c.bare("unserved")
	require.NoError(t, c.create(loadBalancer("web", asksFor("10.0.0.0"))))
	c.published("web", "10.0.0.0")
	require.NoError(t, c.create(loadBalancer("other", asksFor("10.0.0.1"))))
	c.published("other", "10.0.0.1")
}

// A class that is taken over finds Services with an address.
func TestFault_K3_5_ClassTakenOver(t *testing.T) {
	c := start(t,
		loadBalancer("web", withClass("metallb.io/lb"), withStatus("10.0.0.2")),
		loadBalancer("outside", withClass("metallb.io/lb"), withStatus("192.0.2.9")))
	require.NoError(t, c.create(loadBalancer("new")))
	c.published("new", "10.0.0.0")
	both := strings.ReplaceAll(pools, "baremetal.cloud/lb", "metallb.io/lb")
	require.NoError(t, os.WriteFile(c.path, []byte(both), 0o600))
	c.says("web", ConditionAllocated, reason.Allocated)
	c.published("web", "10.0.0.2")
	c.published("outside", "10.0.0.1")
	c.told("Allocated: 10.0.0.1 from pool default; no longer 192.0.2.9")
}

// A cloud-config that takes over a class, with the pool that its Services have addresses of,
// gives none of these to a Service that waits.
func TestFault_K3_5_ClassTakenOverWhileOthersWait(t *testing.T) {
	c := start(t,
		loadBalancer("outside", withClass("metallb.io/lb"), withStatus("192.0.2.9")),
		loadBalancer("web", withClass("metallb.io/lb"), withStatus("10.0.1.1")))
	for _, name := range []string{"a", "b", "c", "d"} {
		require.NoError(t, c.create(loadBalancer(name)))
		c.says(name, ConditionAllocated, reason.Allocated)
	}
	require.Error(t, c.create(loadBalancer("waits")))
	require.Error(t, c.create(loadBalancer("too")))
	both := strings.ReplaceAll(strings.ReplaceAll(pools, "baremetal.cloud/lb", "metallb.io/lb"), "10.0.0.0/30", "10.0.0.0/30, 10.0.1.0/30")
	require.NoError(t, os.WriteFile(c.path, []byte(both), 0o600))
	c.says("web", ConditionAllocated, reason.Allocated)
	for _, name := range []string{"outside", "waits", "too"} {
		c.says(name, ConditionAllocated, reason.Allocated)
		require.NotContains(t, publishedAddresses(c.service(name)), netip.MustParseAddr("10.0.1.1"))
	}
	c.published("web", "10.0.1.1")
}

// MetalLB's shared pair keeps its address, and a Warning says which key to write.
func TestFault_K3_6_SharedPairOfMetalLB(t *testing.T) {
	shared := func(port int32, hour int) func(*corev1.Service) {
		return func(svc *corev1.Service) {
			svc.CreationTimestamp = metav1.NewTime(time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC))
			svc.Annotations["metallb.io/allow-shared-ip"] = "dns"
			svc.Spec.Ports = []corev1.ServicePort{{Port: port}}
		}
	}
	c := start(t, loadBalancer("older", withStatus("10.0.0.1"), shared(80, 1)), loadBalancer("younger", withStatus("10.0.0.1"), shared(81, 2)))
	for name, other := range map[string]string{"older": "younger", "younger": "older"} {
		c.says(name, ConditionAllocated, reason.SharingKeyMissing)
		c.says(name, ConditionShared, reason.SharingKeyMissing)
		c.published(name, "10.0.0.1")
		c.told("SharingKeyMissing: 10.0.0.1 from pool default; 10.0.0.1 is shared with Service default/" + other + " without a key: annotate both with baremetal.cloud/sharing-key: dns")
	}
	for _, name := range []string{"older", "younger"} {
		c.edit(name, func(svc *corev1.Service) { svc.Annotations[AnnotationSharingKey] = "dns" })
	}
	c.says("younger", ConditionAllocated, reason.Allocated)
	c.published("younger", "10.0.0.1")
}

// What is quoted of another controller's annotation is bounded.
func TestForeignKeyIsBounded(t *testing.T) {
	for length, want := range map[int]int{maxForeignKey: maxForeignKey, maxForeignKey + 1: 0} {
		svc := loadBalancer("web", func(svc *corev1.Service) {
			svc.Annotations["metallb.universe.tf/allow-shared-ip"] = strings.Repeat("k", length)
		})
		require.Len(t, foreignKey(svc), want)
	}
}

// What is empty is absent, in each annotation.
func TestFault_K3_9_EmptyIsAbsent(t *testing.T) {
	got := serviceOf(loadBalancer("web", func(svc *corev1.Service) {
		svc.Annotations = map[string]string{AnnotationAddresses: "", AnnotationPool: "", AnnotationSharingKey: ""}
	}), nil)
	require.Equal(t, serviceOf(loadBalancer("web"), nil), got)
	blank := serviceOf(loadBalancer("web", asksFor(" "), func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = "10.0.0.1" }), nil)
	require.Empty(t, blank.Unreadable)
	require.Equal(t, "[10.0.0.1]", text(blank.Addresses))
}

// A Service that is gone is released, whatever a cache shows of it.
func TestFault_K3_3_GoneServiceIsReleased(t *testing.T) {
	c := start(t)
	require.NoError(t, c.create(loadBalancer("web")))
	c.published("web", "10.0.0.0")
	outdated := c.service("web")
	require.NoError(t, c.client.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}))
	require.NoError(t, c.p.releaseService(t.Context(), outdated))
	require.False(t, c.knows("uid-web"))
}
