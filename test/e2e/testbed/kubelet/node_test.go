package kubelet

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"baremetal.cloud/ccm/test/e2e/testbed/lan"
)

// newAgent returns the stand-in of the first node of a testbed.
func newAgent(t *testing.T, separate, external bool) *Agent {
	t.Helper()
	layout, err := lan.New("x", 1, separate)
	require.NoError(t, err)
	return &Agent{
		Node: layout.Nodes[0], Client: fake.NewClientset(), External: external,
		Labels: map[string]string{"rack": "a"},
	}
}

func (a *Agent) registered(t *testing.T) *corev1.Node {
	t.Helper()
	require.NoError(t, a.postNode(t.Context()))
	node, err := a.Client.CoreV1().Nodes().Get(t.Context(), a.Node.Name, metav1.GetOptions{})
	require.NoError(t, err)
	require.True(t, ready(node))
	require.Equal(t, "a", node.Labels["rack"])
	require.Equal(t, a.Node.Name, node.Labels[corev1.LabelHostname])
	require.Empty(t, node.Spec.ProviderID)
	return node
}

func TestRegistration(t *testing.T) {
	const annotation = "alpha.kubernetes.io/provided-node-ip"
	node := newAgent(t, true, false).registered(t)
	require.Len(t, node.Status.Addresses, 5, "both networks, both families, and the name")
	require.Empty(t, node.Spec.Taints)
	require.NotContains(t, node.Annotations, annotation)

	a := newAgent(t, true, true)
	node = a.registered(t)
	v4, v6 := a.Node.Mgmt.V4.String(), a.Node.Mgmt.V6.String()
	require.Equal(t, []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: v4}, {Type: corev1.NodeInternalIP, Address: v6},
		{Type: corev1.NodeHostName, Address: "node1"},
	}, node.Status.Addresses)
	require.Equal(t, v4+","+v6, node.Annotations[annotation])
	require.Equal(t, []corev1.Taint{{
		Key: "node.cloudprovider.kubernetes.io/uninitialized", Value: "true", Effect: corev1.TaintEffectNoSchedule,
	}}, node.Spec.Taints)
}

// A real kubelet registers its node when it starts, and never again.
func TestDeletedNodeStaysDeleted(t *testing.T) {
	a := newAgent(t, false, false)
	a.registered(t)
	nodes := a.Client.CoreV1().Nodes()
	require.NoError(t, nodes.Delete(t.Context(), "node1", metav1.DeleteOptions{}))
	require.NoError(t, a.postNode(t.Context()))
	_, err := nodes.Get(t.Context(), "node1", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err))
	require.NoError(t, a.Register(t.Context()))
	a.registered(t)
}

// What a cloud has written stays when a node comes back.
func TestReturningNodeKeepsWhatTheCloudSet(t *testing.T) {
	a := newAgent(t, false, true)
	node := a.registered(t)
	node.Spec.ProviderID, node.Spec.Taints = "baremetal://node1", nil
	node.Labels[corev1.LabelTopologyZone] = "a"
	node.Annotations = nil
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "set by the cloud"}}
	setNodeCondition(&node.Status, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown})
	nodes := a.Client.CoreV1().Nodes()
	before, err := nodes.Update(t.Context(), node, metav1.UpdateOptions{})
	require.NoError(t, err)

	require.NoError(t, a.postNode(t.Context()))
	after, err := nodes.Get(t.Context(), "node1", metav1.GetOptions{})
	require.NoError(t, err)
	require.True(t, ready(after))
	require.Equal(t, before.Spec, after.Spec)
	require.Equal(t, before.Labels, after.Labels)
	require.Equal(t, before.Status.Addresses, after.Status.Addresses)
	require.NotEmpty(t, after.Annotations, "the annotation is the kubelet's own")
}
