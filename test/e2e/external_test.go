//go:build e2e

package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	cloudproviderapi "k8s.io/cloud-provider/api"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// TestExternalCloudProvider is a cluster whose kubelets run with
// --cloud-provider=external, with `nodes` in the cloud-config: nodes wait for the CCM,
// which itself has to run on them, and no node is given up afterwards.
func TestExternalCloudProvider(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 3, Proxy: "nftables", Mgmt: "lan", External: true, NoDeploy: true})
	nodes := l.nodes()
	for _, node := range nodes {
		l.waits(node)
	}
	// Older kubelets leave even the addresses of --node-ip to the cloud.
	l.onlyHostName("node1")

	// Nobody else takes the taint away, so the CCM was scheduled in spite of it.
	t.Run("the CCM starts on nodes that wait for it", func(t *testing.T) {
		l := l.with(t)
		_, err := l.c.Kubectl(t.Context(), "apply", "-k", filepath.Join(l.c.Dir, "overlay"))
		require.NoError(t, err)
		for i, node := range nodes {
			l.initialised(node, []string{"a", "b"}[i%2])
		}
	})
	t.Run("a Service works there", func(t *testing.T) {
		l := l.with(t)
		l.create("web", nil)
		address := l.address("web")
		l.addressOwner(address)
		l.requested(address)
	})
	t.Run("a restart of the CCM changes nothing", func(t *testing.T) {
		l := l.with(t)
		before := l.whatTheCloudSet()
		l.stop("ccm")
		// Putting this right shows that the new leader has looked at its nodes.
		l.onlyHostName("node2")
		l.start("ccm")
		l.initialised("node2", "b")
		require.Equal(t, before, l.whatTheCloudSet())
	})
	t.Run("a machine that is away keeps its Node", func(t *testing.T) { l.with(t).awayAndBack("node3", "a") })
	t.Run("a node that joins again is initialised again", func(t *testing.T) {
		l := l.with(t)
		require.NoError(t, l.client.CoreV1().Nodes().Delete(t.Context(), "node3", metav1.DeleteOptions{}))
		l.start("kubelet:node3")
		l.eventually(func(t *assert.CollectT) {
			_, err := l.client.CoreV1().Nodes().Get(l.Context(), "node3", metav1.GetOptions{})
			require.NoError(t, err)
		}, "node3 registers")
		l.initialised("node3", "a")
		l.requested(l.address("web"))
	})
}

// awayAndBack cuts a node off until Kubernetes takes it for lost. A new leader, which
// looks at all nodes, leaves it as it is, and so is it when it is back.
func (l *lab) awayAndBack(node, zone string) {
	l.Helper()
	before := l.node(node)
	all := l.whatTheCloudSet()
	require.NoError(l, l.c.Cut(l.Context(), node, testbed.Silent))
	l.readiness(node, corev1.ConditionUnknown)
	replica := l.leader("")
	at := l.nodeOfReplica(replica)
	// A leader puts addresses right when it begins and every five minutes.
	l.onlyHostName("node2")
	l.stop("ccm:" + at)
	l.leader(replica)
	l.initialised("node2", "b")
	away := l.node(node)
	require.Equal(l, before.UID, away.UID)
	require.False(l, slices.ContainsFunc(away.Spec.Taints, func(t corev1.Taint) bool {
		return strings.HasPrefix(t.Key, "node.cloudprovider.kubernetes.io/")
	}), "%v", away.Spec.Taints)
	out, _ := l.c.Kubectl(l.Context(), "auth", "can-i", "delete", "nodes", "--as=system:serviceaccount:"+system+":baremetal-ccm")
	require.Equal(l, "no\n", out)

	l.start("ccm:" + at)
	require.NoError(l, l.c.Heal(l.Context(), node))
	l.readiness(node, corev1.ConditionTrue)
	l.initialised(node, zone)
	require.Equal(l, before.UID, l.node(node).UID)
	require.Equal(l, all, l.whatTheCloudSet())
}

func (l *lab) node(name string) *corev1.Node {
	l.Helper()
	node, err := l.client.CoreV1().Nodes().Get(l.Context(), name, metav1.GetOptions{})
	require.NoError(l, err)
	return node
}

// waits checks that a node is registered and not initialised, and that web Pods wait.
func (l *lab) waits(name string) {
	l.Helper()
	node := l.node(name)
	require.True(l, uninitialised(node))
	require.Empty(l, node.Spec.ProviderID)
	require.NotContains(l, node.Labels, corev1.LabelTopologyZone)
	require.NotContains(l, node.Labels, corev1.LabelTopologyRegion)
	set, err := l.client.AppsV1().DaemonSets("default").Get(l.Context(), "web-"+name, metav1.GetOptions{})
	require.NoError(l, err)
	require.Zero(l, set.Status.CurrentNumberScheduled)
}

// initialised waits until a node is as the cloud-config wants it, and an ordinary Pod
// runs there.
func (l *lab) initialised(name, zone string) {
	l.Helper()
	l.eventually(func(t *assert.CollectT) {
		node, err := l.client.CoreV1().Nodes().Get(l.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		require.False(t, uninitialised(node))
		require.Equal(t, "baremetal://"+name, node.Spec.ProviderID)
		require.Equal(t, l.nodeAddresses(name), node.Status.Addresses)
		require.Equal(t, zone, node.Labels[corev1.LabelTopologyZone])
		require.Equal(t, "lab", node.Labels[corev1.LabelTopologyRegion])
		set, err := l.client.AppsV1().DaemonSets("default").Get(l.Context(), "web-"+name, metav1.GetOptions{})
		require.NoError(t, err)
		require.EqualValues(t, 1, set.Status.NumberReady)
	}, "%s is not initialised", name)
}

func uninitialised(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == cloudproviderapi.TaintExternalCloudProvider })
}

// nodeAddresses are those that a node has to have in the end: both of --node-ip, and its
// name.
func (l *lab) nodeAddresses(name string) []corev1.NodeAddress {
	hosts := l.c.Layout().Nodes
	primary := hosts[slices.Index(l.nodes(), name)].Primary()
	return []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: primary.V4.String()},
		{Type: corev1.NodeInternalIP, Address: primary.V6.String()},
		{Type: corev1.NodeHostName, Address: name},
	}
}

// onlyHostName takes a node's other addresses away.
func (l *lab) onlyHostName(name string) {
	l.Helper()
	require.NoError(l, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node := l.node(name)
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
		_, err := l.client.CoreV1().Nodes().UpdateStatus(l.Context(), node, metav1.UpdateOptions{})
		return err
	}))
}

func (l *lab) readiness(name string, want corev1.ConditionStatus) {
	l.Helper()
	l.eventually(func(t *assert.CollectT) {
		for _, c := range l.node(name).Status.Conditions {
			if c.Type == corev1.NodeReady {
				require.Equal(t, want, c.Status)
			}
		}
	}, "%s: Ready is not %s", name, want)
}

// cloudSet is what of a Node is the cloud's.
type cloudSet struct {
	ProviderID          string
	Labels, Annotations map[string]string
	Addresses           []corev1.NodeAddress
}

func (l *lab) whatTheCloudSet() map[string]cloudSet {
	l.Helper()
	set := map[string]cloudSet{}
	for _, name := range l.nodes() {
		n := l.node(name)
		set[name] = cloudSet{n.Spec.ProviderID, n.Labels, n.Annotations, n.Status.Addresses}
	}
	return set
}
