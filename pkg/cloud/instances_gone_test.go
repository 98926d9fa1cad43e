package cloud

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	"k8s.io/cloud-provider/controllers/nodelifecycle"
)

// The Node of a silent machine must outlive its silence.
func TestNoNodeIsEverGone(t *testing.T) {
	for _, node := range []*corev1.Node{newNode(), newNode(withoutTaint), {}, {Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}},
	}}} {
		i := instances{nodes: initialised, events: record.NewFakeRecorder(9)}
		exists, err := i.InstanceExists(t.Context(), node)
		require.NoError(t, err)
		require.True(t, exists)
		shutdown, err := i.InstanceShutdown(t.Context(), node)
		require.NoError(t, err)
		require.False(t, shutdown)
		metadata, err := i.InstanceMetadata(t.Context(), node)
		require.True(t, metadata != nil || err != nil)
	}
}

// The stock cloud-node-lifecycle-controller, should anybody run it on our answers, neither
// deletes the Node of a silent machine nor taints it as shut down.
func TestLifecycleControllerLeavesSilentNodes(t *testing.T) {
	silent := newNode(withoutTaint, withNodeIP("192.0.2.1"))
	unknown := silent.DeepCopy()
	unknown.Name, unknown.Spec.ProviderID = "node2", "baremetal://node2"
	unknown.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
	client := fake.NewClientset(silent, unknown)
	p := &Provider{recorder: record.NewFakeRecorder(9)}
	p.nodes.Store(&initialised)
	factory := informers.NewSharedInformerFactory(client, 0)
	lifecycle, err := nodelifecycle.NewCloudNodeLifecycleController(factory.Core().V1().Nodes(), client, p, time.Hour, 1)
	require.NoError(t, err)
	for _, node := range []*corev1.Node{silent, unknown} {
		require.NoError(t, factory.Core().V1().Nodes().Informer().GetStore().Add(node))
	}
	lifecycle.MonitorNodes(t.Context())
	for _, node := range []*corev1.Node{silent, unknown} {
		left, err := client.CoreV1().Nodes().Get(t.Context(), node.Name, metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, node, left)
	}
}
