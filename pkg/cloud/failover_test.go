package cloud

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// What the cloud-config says of failover, and keys from the cluster's secret, reach the plans.
// A lost stream wakes the publish loop: what the peers have found may count now.
func TestPlansSayWhomToWatch(t *testing.T) {
	c := startWith(t, pools+"failover: {transmitInterval: 50ms, detectMultiplier: 4}\n", time.Now,
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node2"}})
	eth0 := []plan.Interface{{Name: "eth0"}}
	c.p.NodeConnected("node1", plan.Report{Interfaces: eth0})
	c.p.NodeConnected("node2", plan.Report{Interfaces: eth0})
	require.Eventually(t, func() bool { return len(c.plan().Failover.Peers) > 0 }, waitAtMost, 5*time.Millisecond)

	settings := c.plan().Failover
	require.Equal(t, 50*time.Millisecond, settings.TransmitInterval)
	require.Equal(t, 4, settings.DetectMultiplier)
	require.True(t, slices.EqualFunc(settings.Peers, []string{"node2"}, func(p plan.Peer, name string) bool { return p.Node == name }))
	require.Equal(t, eth0, settings.Peers[0].Interfaces)
	require.NotZero(t, settings.Peers[0].Key)

	core := newCore(time.Now, func(...string) {})
	core.takeReport("node1", plan.Report{})
	<-core.wake
	core.streamEnded("node1")
	require.Len(t, core.wake, 1)
}
