package cloud

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// TestFault_K1_7_StandbyKnowsTheNodes: also a replica that does not lead tells nodes from
// strangers by what the API server has.
func TestFault_K1_7_StandbyKnowsTheNodes(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node2"}, Status: corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.2"}},
	}}
	c, _ := standby(t, pools, time.Now, func(*fake.Clientset) {}, node)
	require.Eventually(t, func() bool { return c.p.options.Nodes.Owns("node2", netip.MustParseAddr("192.0.2.2")) }, waitAtMost, time.Millisecond)
	require.False(t, c.p.options.Nodes.Has(netip.MustParseAddr("203.0.113.1")))
}
