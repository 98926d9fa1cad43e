package cloud

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	cloudproviderapi "k8s.io/cloud-provider/api"
	cloudnode "k8s.io/cloud-provider/controllers/node"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"

	"baremetal.cloud/ccm/pkg/cloud/config"
)

// These tests run the stock cloud-node-controller on our answers: what counts is what it
// makes of them.

// initialised is what nodes are initialised with here.
var initialised = config.Nodes{ProviderID: "baremetal://{name}", ZoneLabel: "rack", RegionLabel: "example.org/site"}

// newNode returns a Node as a kubelet with --cloud-provider=external registers it.
func newNode(change ...func(*corev1.Node)) *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node1", Labels: map[string]string{}, Annotations: map[string]string{}},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{
			{Key: cloudproviderapi.TaintExternalCloudProvider, Value: "true", Effect: corev1.TaintEffectNoSchedule},
			{Key: "example.org/other", Effect: corev1.TaintEffectNoSchedule},
		}},
	}
	withAddresses(corev1.NodeHostName, "node1")(node)
	for _, f := range change {
		f(node)
	}
	return node
}

// withAddresses sets the status to pairs of type and address.
func withAddresses(pairs ...any) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Status.Addresses = addressesOf(pairs...) }
}

func addressesOf(pairs ...any) []corev1.NodeAddress {
	var out []corev1.NodeAddress
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, corev1.NodeAddress{Type: pairs[i].(corev1.NodeAddressType), Address: pairs[i+1].(string)})
	}
	return out
}

func withNodeIP(text string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Annotations[cloudproviderapi.AnnotationAlphaProvidedIPAddr] = text }
}

func withLabel(key, value string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[key] = value }
}

func withoutTaint(n *corev1.Node) { n.Spec.Taints = nil }

// machines is a cluster with one node and the stock controller.
type machines struct {
	t          *testing.T
	client     *fake.Clientset
	events     *record.FakeRecorder
	controller *cloudnode.CloudNodeController
}

// manage runs the stock controller on node until the test ends.
func manage(t *testing.T, node *corev1.Node) *machines {
	t.Helper()
	m := &machines{t: t, client: fake.NewClientset(node), events: record.NewFakeRecorder(1000)}
	p := &Provider{recorder: m.events}
	p.nodes.Store(&initialised)
	factory := informers.NewSharedInformerFactory(m.client, 0)
	var err error
	m.controller, err = cloudnode.NewCloudNodeController(factory.Core().V1().Nodes(), m.client, p, time.Hour, 1, 1)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	done := make(chan struct{})
	go func() {
		m.controller.RunWithContext(ctx, controllersmetrics.NewControllerManagerMetrics("test"))
		close(done)
	}()
	t.Cleanup(func() { cancel(); <-done; factory.Shutdown() })
	return m
}

func (m *machines) node() *corev1.Node {
	m.t.Helper()
	node, err := m.client.CoreV1().Nodes().Get(context.Background(), "node1", metav1.GetOptions{})
	require.NoError(m.t, err)
	return node
}

// ready waits until the node is initialised with those addresses, and returns it.
func (m *machines) ready(addresses []corev1.NodeAddress) *corev1.Node {
	m.t.Helper()
	require.EventuallyWithT(m.t, func(t *assert.CollectT) {
		node := m.node()
		for _, taint := range node.Spec.Taints {
			require.NotEqual(t, cloudproviderapi.TaintExternalCloudProvider, taint.Key)
		}
		require.Equal(t, addresses, node.Status.Addresses)
	}, waitAtMost, 5*time.Millisecond)
	return m.node()
}

func TestNodeIsInitialised(t *testing.T) {
	const internal, external, name = corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeHostName
	tests := map[string]struct {
		node *corev1.Node
		want []corev1.NodeAddress
	}{
		"--node-ip, and only the host name in status": {newNode(withNodeIP("192.0.2.1")),
			addressesOf(internal, "192.0.2.1", name, "node1")},
		"--node-ip of both families": {newNode(withNodeIP("192.0.2.1,2001:db8::1")),
			addressesOf(internal, "192.0.2.1", internal, "2001:db8::1", name, "node1")},
		"--node-ip of both families, one in status": {newNode(withNodeIP("2001:db8::1,192.0.2.1"), withAddresses(internal, "192.0.2.1", name, "n1")),
			addressesOf(internal, "2001:db8::1", internal, "192.0.2.1", name, "n1")},
		"--node-ip changed": {newNode(withNodeIP("192.0.2.2"), withAddresses(internal, "192.0.2.1", name, "n1")),
			addressesOf(internal, "192.0.2.2", name, "n1")},
		"--node-ip beside other addresses": {newNode(withNodeIP("192.0.2.2"), withAddresses(external, "198.51.100.1", name, "n1", internal, "192.0.2.1")),
			addressesOf(internal, "192.0.2.2", external, "198.51.100.1", name, "n1")},
		"status alone": {newNode(withAddresses(internal, "192.0.2.1", internal, "2001:db8::1", name, "n1")),
			addressesOf(internal, "192.0.2.1", internal, "2001:db8::1", name, "n1")},
		"status without a host name": {newNode(withAddresses(internal, "192.0.2.1"), withLabel(corev1.LabelHostname, "host1")),
			addressesOf(internal, "192.0.2.1", name, "host1")},
		"no status at all": {newNode(withAddresses(), withNodeIP("192.0.2.1")),
			addressesOf(internal, "192.0.2.1", name, "node1")},
		"a node called by its address": {newNode(withAddresses(name, "192.0.2.1"), withNodeIP("192.0.2.1")),
			addressesOf(name, "192.0.2.1", internal, "192.0.2.1")},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			node := manage(t, tt.node).ready(tt.want)
			require.Equal(t, "baremetal://node1", node.Spec.ProviderID)
			require.Len(t, node.Spec.Taints, 1, "the other taint stays")
		})
	}
}

// A node that lacks an address keeps the taint, and says in an Event how to go on. It is
// initialised as soon as the cure is applied.
func TestNodeWaitsForAnAddress(t *testing.T) {
	tests := map[string]struct {
		node *corev1.Node
		want string
	}{
		"no address": {newNode(),
			"Warning NodeNotInitialized neither its status nor the annotation alpha.kubernetes.io/provided-node-ip has an address: start its kubelet with --node-ip=ADDRESS"},
		"a host name that looks like an address": {newNode(withAddresses(corev1.NodeHostName, "192.0.2.1")),
			"Warning NodeNotInitialized neither its status"},
		"garbage in the annotation": {newNode(withNodeIP("192.0.2.1,x")),
			`Warning NodeNotInitialized annotation alpha.kubernetes.io/provided-node-ip: "x" cannot be the address of a node: start its kubelet with --node-ip=ADDRESS`},
		"an empty annotation":          {newNode(withNodeIP("")), `"" cannot be the address of a node`},
		"the unspecified address":      {newNode(withNodeIP("0.0.0.0")), `"0.0.0.0" cannot be the address of a node`},
		"a loopback address":           {newNode(withNodeIP("::1")), `"::1" cannot be the address of a node`},
		"an address with a zone":       {newNode(withNodeIP("fe80::1%eth0")), `"fe80::1%eth0" cannot be the address of a node`},
		"a mapped unspecified address": {newNode(withNodeIP("::ffff:0.0.0.0")), `"::ffff:0.0.0.0" cannot be the address of a node`},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			m := manage(t, tt.node)
			require.Contains(t, <-m.events.Events, tt.want)
			node := m.node()
			require.Len(t, node.Spec.Taints, 2)
			require.Empty(t, node.Spec.ProviderID)
			withNodeIP("192.0.2.1")(node)
			withAddresses(corev1.NodeHostName, "n1")(node)
			_, err := m.client.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{})
			require.NoError(t, err)
			m.ready(addressesOf(corev1.NodeInternalIP, "192.0.2.1", corev1.NodeHostName, "n1"))
		})
	}
}

// Two addresses of one family are what the stock controller refuses.
func TestStockControllerRefusesTwoAddressesOfAFamily(t *testing.T) {
	node := newNode(withNodeIP("192.0.2.1,192.0.2.2"))
	_, err := instances{nodes: initialised, events: record.NewFakeRecorder(9)}.InstanceMetadata(t.Context(), node)
	require.NoError(t, err)
	m := manage(t, node)
	require.Never(t, func() bool { return m.node().Spec.ProviderID != "" }, 100*time.Millisecond, 10*time.Millisecond)
}

// The provider ID of a node is immutable: one that is there is kept.
func TestProviderIDIsKept(t *testing.T) {
	m := manage(t, newNode(withNodeIP("192.0.2.1"), func(n *corev1.Node) { n.Spec.ProviderID = "metal3://42" }))
	node := m.ready(addressesOf(corev1.NodeInternalIP, "192.0.2.1", corev1.NodeHostName, "node1"))
	require.Equal(t, "metal3://42", node.Spec.ProviderID)
}

func TestZoneAndRegionComeFromLabels(t *testing.T) {
	addresses := addressesOf(corev1.NodeInternalIP, "192.0.2.1", corev1.NodeHostName, "node1")
	m := manage(t, newNode(withNodeIP("192.0.2.1"), withLabel("rack", "a"), withLabel("example.org/site", "north")))
	labels := m.ready(addresses).Labels
	require.Equal(t, "a", labels[corev1.LabelTopologyZone])
	require.Equal(t, "north", labels[corev1.LabelTopologyRegion])
	require.Empty(t, m.events.Events)

	m = manage(t, newNode(withNodeIP("192.0.2.1"), withLabel("rack", ""), withLabel("example.org/site", "north")))
	labels = m.ready(addresses).Labels
	require.NotContains(t, labels, corev1.LabelTopologyZone)
	require.Equal(t, "north", labels[corev1.LabelTopologyRegion])
	require.Equal(t, "Warning NodeLabelMissing the node has no label rack: topology.kubernetes.io/zone is not set, and will not be set later; set both by hand", <-m.events.Events)
}

// A node that was initialised before is looked at every few minutes. Whatever it looks
// like, the stock controller survives it, the addresses are those of --node-ip, and no
// Event repeats what nobody can act on.
func TestInitialisedNodeIsKeptUp(t *testing.T) {
	const internal, name = corev1.NodeInternalIP, corev1.NodeHostName
	tests := map[string]struct {
		node *corev1.Node
		want []corev1.NodeAddress
	}{
		"as it was":               {newNode(withoutTaint, withAddresses(internal, "192.0.2.1", name, "n1")), addressesOf(internal, "192.0.2.1", name, "n1")},
		"without any address":     {newNode(withoutTaint, withAddresses()), nil},
		"with a bad annotation":   {newNode(withoutTaint, withAddresses(internal, "192.0.2.1"), withNodeIP("x")), addressesOf(internal, "192.0.2.1")},
		"with a new --node-ip":    {newNode(withoutTaint, withAddresses(internal, "192.0.2.1", name, "n1"), withNodeIP("192.0.2.2")), addressesOf(internal, "192.0.2.2", name, "n1")},
		"with its host name gone": {newNode(withoutTaint, withAddresses(internal, "192.0.2.1")), addressesOf(internal, "192.0.2.1", name, "node1")},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			m := manage(t, tt.node)
			require.NoError(t, m.controller.UpdateNodeStatus(t.Context()))
			require.Equal(t, tt.want, m.node().Status.Addresses)
			require.Empty(t, m.events.Events)
		})
	}
}

// Without the key nodes there is nothing to serve; adding it to a running process changes
// nothing but is said, and so is removing it.
func TestNodesAreTakenOverAtTheStart(t *testing.T) {
	with := pools + "nodes: {zoneLabel: rack}\n"
	for _, tt := range []struct{ before, after, want string }{
		{pools, with, "RestartNeeded: the key nodes was added: nodes are initialised once baremetal-ccm is restarted"},
		{with, pools, "RestartNeeded: the key nodes was removed: nodes are initialised as before until baremetal-ccm is restarted"},
	} {
		c := startWith(t, tt.before, time.Now)
		_, served := c.p.InstancesV2()
		require.Equal(t, tt.before == with, served)
		require.NoError(t, os.WriteFile(c.path, []byte(tt.after), 0o600))
		require.EventuallyWithT(t, func(t *assert.CollectT) {
			require.Contains(t, c.eventsIn("baremetal-ccm"), tt.want)
		}, waitAtMost, 10*time.Millisecond)
		_, after := c.p.InstancesV2()
		require.Equal(t, served, after)
	}
}

// What nodes says may change at any time.
func TestNodesAreReloaded(t *testing.T) {
	c := startWith(t, pools+"nodes: {}\n", time.Now)
	require.NoError(t, os.WriteFile(c.path, []byte(pools+"nodes: {providerID: \"metal3://{name}\"}\n"), 0o600))
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		i, served := c.p.InstancesV2()
		require.True(t, served)
		metadata, err := i.InstanceMetadata(context.Background(), newNode(withNodeIP("192.0.2.1")))
		require.NoError(t, err)
		require.Equal(t, "metal3://node1", metadata.ProviderID)
	}, waitAtMost, 10*time.Millisecond)
}
