package cloud

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	cloudprovider "k8s.io/cloud-provider"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"baremetal.cloud/ccm/pkg/reason"
)

const ourClass = "baremetal.cloud/lb"

// optIn serves the Services with one of two classes, and no others.
var optIn = strings.ReplaceAll(pools, "loadBalancerClasses: [baremetal.cloud/lb]", "servicesWithoutClass: false\nloadBalancerClasses: [baremetal.cloud/lb, example.org/lb]")

// elsewhere is a Service that another controller serves, by the finalizer that both use.
func elsewhere(name string, change ...func(*corev1.Service)) *corev1.Service {
	return loadBalancer(name, append(change, withStatus("10.0.0.0"), func(svc *corev1.Service) {
		svc.Finalizers = []string{servicehelpers.LoadBalancerCleanupFinalizer}
	})...)
}

// Part 4 of issue 16: with servicesWithoutClass: false nothing of another controller's Service
// is touched, and the Services of every class listed are served.
func TestOptInLeavesOthersAlone(t *testing.T) {
	c := startWith(t, optIn, time.Now, elsewhere("old"))
	before := c.service("old")
	// What is in a status of another controller keeps no address of a pool from being used.
	require.NoError(t, c.create(loadBalancer("ours", withClass(ourClass))))
	c.published("ours", "10.0.0.0")
	require.Equal(t, []string{Finalizer}, c.service("ours").Finalizers)
	require.NoError(t, c.create(loadBalancer("too", withClass("example.org/lb"))))
	c.published("too", "10.0.0.1")

	_, err := c.p.EnsureLoadBalancer(t.Context(), "", before, nil)
	require.Equal(t, cloudprovider.ImplementedElsewhere, err)
	_, exists, err := c.p.GetLoadBalancer(t.Context(), "", before)
	require.NoError(t, err)
	require.False(t, exists)
	c.deleting("old")
	c.edit("ours", func(svc *corev1.Service) { svc.Labels = map[string]string{"a": "b"} })
	require.NoError(t, c.create(loadBalancer("last", withClass(ourClass))))
	c.published("last", "10.0.0.2")
	after := c.service("old")
	after.DeletionTimestamp = before.DeletionTimestamp
	after.Finalizers = after.Finalizers[:1]
	require.Equal(t, before, after)
	require.False(t, c.knows("uid-old"))

	require.NoError(t, c.p.RunServiceController(t.Context(), ServiceControllerOptions{}), "the stock controller is not started")
}

// A Service that had a class of ours and then none belongs to another controller: its
// finalizer stays.
func TestOptInKeepsTheFinalizerOfAnother(t *testing.T) {
	c := startWith(t, optIn, time.Now)
	require.NoError(t, c.create(loadBalancer("web", withClass(ourClass))))
	c.published("web", "10.0.0.0")
	c.edit("web", func(svc *corev1.Service) {
		svc.Spec.LoadBalancerClass = nil // by way of another type
		svc.Finalizers = append(svc.Finalizers, servicehelpers.LoadBalancerCleanupFinalizer)
	})
	c.bare("web")
	require.Equal(t, []string{servicehelpers.LoadBalancerCleanupFinalizer}, c.service("web").Finalizers)
}

// Turning the key to false while a Service without a class holds an address is refused like a
// pool that shrinks, by the leader that runs and by the next one.
func TestOptInIsRefusedWhileServicesHoldAddresses(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) *cluster{
		"running": func(t *testing.T) *cluster {
			c := start(t)
			require.NoError(t, c.create(loadBalancer("web")))
			c.published("web", "10.0.0.0")
			require.NoError(t, os.WriteFile(c.path, []byte(optIn), 0o600))
			return c
		},
		"at the start": func(t *testing.T) *cluster {
			return startWith(t, optIn, time.Now, lastGood(pools), loadBalancer("web", withStatus("10.0.0.0")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			c.refused("servicesWithoutClass: Services that hold addresses would not be served any longer: default/web without a class; " +
				"keep true, delete these Services, or set onShrink: Reassign")
			require.NoError(t, c.create(loadBalancer("new")))
			c.published("new", "10.0.0.1")
			require.True(t, *c.p.withoutClass.Load(), "the stock controller runs for what is in use")

			require.NoError(t, os.WriteFile(c.path, []byte(strings.ReplaceAll(optIn, "Refuse", "Reassign")), 0o600))
			c.bare("web")
			c.bare("new")
			require.NotContains(t, c.service("web").Finalizers, servicehelpers.LoadBalancerCleanupFinalizer)
			require.Eventually(t, func() bool {
				return strings.Contains(strings.Join(c.eventsIn("baremetal-ccm"), "\n"), eventRestartNeeded+": servicesWithoutClass is false now")
			}, waitAtMost, time.Millisecond)
			require.Equal(t, 1, c.log.Count("reason=RestartNeeded"))
		})
	}
}

// One of several classes leaves the cloud-config only with the Services that have it.
func TestOneOfSeveralClassesLeaves(t *testing.T) {
	c := startWith(t, optIn, time.Now)
	require.NoError(t, c.create(loadBalancer("one", withClass(ourClass))))
	require.NoError(t, c.create(loadBalancer("two", withClass("example.org/lb"))))
	c.published("two", "10.0.0.1")
	less := strings.ReplaceAll(optIn, ", example.org/lb", "")
	require.NoError(t, os.WriteFile(c.path, []byte(less), 0o600))
	c.refused("default/two of class example.org/lb; keep the class")
	require.NoError(t, c.client.CoreV1().Services("default").Delete(t.Context(), "two", metav1.DeleteOptions{}))
	c.inUse(less)
	c.published("one", "10.0.0.0")
}

// Turning the key to true serves nothing before a restart, and says so.
func TestOptOutNeedsARestart(t *testing.T) {
	c := startWith(t, optIn, time.Now, elsewhere("old"))
	require.NoError(t, c.p.waitRestored(t.Context())) // under optIn
	opened := strings.ReplaceAll(optIn, "false", "true")
	require.NoError(t, os.WriteFile(c.path, []byte(opened), 0o600))
	c.inUse(opened)
	require.Eventually(t, func() bool {
		return strings.Contains(strings.Join(c.eventsIn("baremetal-ccm"), "\n"), eventRestartNeeded+": servicesWithoutClass is true now")
	}, waitAtMost, time.Millisecond)
	require.NoError(t, c.create(loadBalancer("ours", withClass(ourClass))))
	c.published("ours", "10.0.0.0")
	require.False(t, c.knows("uid-old"))

	// The next leader takes what the Services have, if it is free.
	next := startWith(t, opened, time.Now, lastGood(optIn), elsewhere("old"))
	next.published("old", "10.0.0.0")
	next.says("old", ConditionAllocated, reason.Allocated)
}

// What this program wrote while it served Services without a class is taken back by a process
// that does not: nothing else would remove its finalizer.
func TestOptInCleansUpAfterItself(t *testing.T) {
	c := startWith(t, strings.ReplaceAll(optIn, "Refuse", "Reassign"), time.Now, lastGood(pools), elsewhere("web", func(svc *corev1.Service) {
		svc.Status.Conditions = []metav1.Condition{{Type: ConditionAllocated, Status: metav1.ConditionTrue, Reason: string(reason.Allocated)}}
	}))
	c.bare("web")
	require.Empty(t, c.service("web").Finalizers)
}

// A tenant who writes a class of ours gets what the pools' rules allow.
func TestClassIsNoPermission(t *testing.T) {
	c := startWith(t, strings.ReplaceAll(optIn, "[10.0.0.0/30, 2001:db8::/64]", "[10.0.0.0/30]\n  namespaces: [ops]"), time.Now)
	require.ErrorContains(t, c.create(loadBalancer("web", withClass(ourClass))), `pool "default" is not for namespace "default"`)
	c.says("web", ConditionAllocated, reason.NoPool)
	require.ErrorContains(t, c.create(loadBalancer("asks", withClass(ourClass), asksFor("10.0.0.3"))), `pool "default" is not for namespace "default"`)
	c.says("asks", ConditionAllocated, reason.PoolNotAllowed)
	require.Empty(t, publishedAddresses(c.service("asks")))
}

// The cleanup before an uninstall asks the last good cloud-config.
func TestOptInOfTheLastGoodConfig(t *testing.T) {
	for text, want := range map[string]bool{pools: false, optIn: true} {
		got, err := OptIn(t.Context(), fake.NewClientset(lastGood(text)), "baremetal-ccm")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"", "kind: none"} {
		_, err := OptIn(t.Context(), fake.NewClientset(lastGood(text)), "baremetal-ccm")
		require.ErrorContains(t, err, LastGoodConfigMapName)
	}
	_, err := OptIn(t.Context(), fake.NewClientset(), "baremetal-ccm")
	require.ErrorContains(t, err, "not found")
}
