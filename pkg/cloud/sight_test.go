package cloud

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// What the cloud-config says of sight, and keys from the cluster's secret, reach the plans.
// A lost stream wakes the publish loop: what the peers have found may count now.
func TestPlansSayWhomToWatch(t *testing.T) {
	c := startWith(t, pools+"failover: {transmitInterval: 50ms, detectMultiplier: 4}\n", time.Now,
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node2"}})
	eth0 := []announcement.Interface{{Name: "eth0"}}
	c.p.NodeConnected("node1", announcement.Report{Interfaces: eth0})
	c.p.NodeConnected("node2", announcement.Report{Interfaces: eth0})
	require.Eventually(t, func() bool { return len(c.plan().Sight.Peers) > 0 }, waitAtMost, 5*time.Millisecond)

	sight := c.plan().Sight
	require.Equal(t, 50*time.Millisecond, sight.TransmitInterval)
	require.Equal(t, 4, sight.DetectMultiplier)
	require.True(t, slices.EqualFunc(sight.Peers, []string{"node2"}, func(p announcement.Peer, name string) bool { return p.Node == name }))
	require.Equal(t, eth0, sight.Peers[0].Interfaces)
	require.NotZero(t, sight.Peers[0].Key)

	core := newCore(time.Now, func(...string) {})
	core.observe("node1", announcement.Report{})
	<-core.wake
	core.disconnect("node1")
	require.Len(t, core.wake, 1)
}
