package cloud

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	cloudprovider "k8s.io/cloud-provider"

	"baremetal.cloud/ccm/pkg/reason"
)

// shrunk leaves out 10.0.0.0.
var shrunk = strings.ReplaceAll(pools, "10.0.0.0/30", "10.0.0.2-10.0.0.3")

// Promise 8, row IP18: what one leader refuses, the next one refuses too, and an address
// that was announced under the last good cloud-config goes on being announced. Once the
// holder is gone the cloud-config is used without anybody touching it.
func TestRefusedReloadOutlivesTheLeader(t *testing.T) {
	c := startWith(t, shrunk, time.Now, lastGood(pools), loadBalancer("web", withStatus("10.0.0.0")), endpointsFor("web"))
	c.refused("default/web")
	c.acknowledge("10.0.0.0")
	c.says("web", ConditionAllocated, reason.Allocated)
	c.says("web", ConditionAnnounced, reason.Announced)
	c.published("web", "10.0.0.0")

	require.NoError(t, c.client.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}))
	c.inUse(shrunk)
	require.NoError(t, c.create(loadBalancer("new")))
	c.published("new", "10.0.0.2")
}

// A standby may have read the file long ago: a leader begins with the file as it is now.
func TestNewLeaderReadsTheFileAgain(t *testing.T) {
	c := startWith(t, pools, time.Now, lastGood(pools), loadBalancer("web", withStatus("10.0.1.0")))
	require.NoError(t, os.WriteFile(c.path, []byte(strings.ReplaceAll(pools, "10.0.0.0/30", "10.0.1.0/30")), 0o600))
	c.says("web", ConditionAllocated, reason.Allocated)
}

// Row IP18: with onShrink: Reassign the new leader moves the holder, as the old one would
// have, with an Event.
func TestReassignAtStart(t *testing.T) {
	c := startWith(t, strings.ReplaceAll(shrunk, "Refuse", "Reassign"), time.Now, lastGood(pools), loadBalancer("web", withStatus("10.0.0.0")))
	c.published("web", "10.0.0.2")
	c.told("Allocated: 10.0.0.2 from pool default; no longer 10.0.0.0")
}

// Row IP19: what a status holds at the start. An address outside every pool is kept and
// flagged, or replaced with an Event where onShrink says so; what is no address of a family
// that the Service asked for is replaced.
func TestOddStatusAtStart(t *testing.T) {
	odd := func() []runtime.Object {
		return []runtime.Object{
			loadBalancer("outside", withStatus("192.0.2.9")),
			loadBalancer("two", withStatus("10.0.0.1", "10.0.0.2")),
			loadBalancer("family", withStatus("2001:db8::7"), func(svc *corev1.Service) { svc.CreationTimestamp = metav1.Now() }),
			loadBalancer("hostname", ingress(corev1.LoadBalancerIngress{Hostname: "lb.example"}), func(svc *corev1.Service) { svc.CreationTimestamp = metav1.Now() }),
			loadBalancer("garbage", ingress(corev1.LoadBalancerIngress{IP: "garbage"}, corev1.LoadBalancerIngress{IP: "10.0.0.3"})),
		}
	}
	c := start(t, odd()...)
	c.published("two", "10.0.0.1") // then 10.0.0.2 is free
	for _, name := range []string{"family", "hostname"} {
		_, err := c.p.EnsureLoadBalancer(t.Context(), "", c.service(name), nil) // the stock controller asks for all
		require.Equal(t, cloudprovider.ImplementedElsewhere, err)
	}
	c.published("outside", "192.0.2.9")
	c.says("outside", ConditionAllocated, reason.AddressOutsidePools)
	c.says("outside", ConditionAnnounced, reason.AddressOutsidePools)
	_, planned := c.plan().Assignments.Find(netip.MustParseAddr("192.0.2.9"))
	require.False(t, planned, "it is not announced")
	c.told("RequestInvalid: 10.0.0.2 is taken out of the status: status holds a second IPv4 address, 10.0.0.2")
	c.published("garbage", "10.0.0.3")
	c.published("family", "10.0.0.0")
	c.published("hostname", "10.0.0.2")

	next := startWith(t, strings.ReplaceAll(pools, "Refuse", "Reassign"), time.Now, odd()...)
	next.published("outside", "10.0.0.0")
	next.told("Allocated: 10.0.0.0 from pool default; no longer 192.0.2.9")
}

func ingress(entries ...corev1.LoadBalancerIngress) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Status.LoadBalancer.Ingress = entries }
}

// A last good cloud-config that cannot be read any more does no harm.
func TestUnreadableLastGood(t *testing.T) {
	c := startWith(t, pools, time.Now, lastGood("pools: ["), loadBalancer("web", withStatus("10.0.0.0")))
	c.says("web", ConditionAllocated, reason.Allocated)
	c.inUse(pools)
}

// A file that vanishes for a moment and comes back as it was is in use again.
func TestFileVanishesForAMoment(t *testing.T) {
	c := start(t)
	c.inUse(pools)
	require.NoError(t, os.Remove(c.path))
	c.refused("no such file")
	require.NoError(t, os.WriteFile(c.path, []byte(pools), 0o600))
	c.inUse(pools)
}

// A Service that only waits for the finalizer of another has let go of its address.
func TestDeletedServiceIsNotRestored(t *testing.T) {
	deleted := loadBalancer("old", withStatus("10.0.0.0"))
	now := metav1.Now()
	deleted.DeletionTimestamp, deleted.Finalizers = &now, []string{"somebody.example/else"}
	c := start(t, deleted, loadBalancer("web", withStatus("10.0.0.0")))
	c.says("web", ConditionAllocated, reason.Allocated)
	c.published("web", "10.0.0.0")
	c.published("old")
}

// refused waits until the file is refused for that cause.
func (c *cluster) refused(cause string) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		require.NotNil(t, c.p.configError.Load())
		require.Contains(t, *c.p.configError.Load(), cause)
	}, waitAtMost, 5*time.Millisecond)
}

// inUse waits until the cloud-config with that text is in use and kept.
func (c *cluster) inUse(text string) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		require.Nil(t, c.p.configError.Load())
		kept, err := c.client.CoreV1().ConfigMaps("baremetal-ccm").Get(context.Background(), LastGoodConfigMapName, metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, text, kept.Data[ConfigMapKey])
	}, waitAtMost, 5*time.Millisecond)
}
