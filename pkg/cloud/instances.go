package cloud

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	cloudprovider "k8s.io/cloud-provider"
	cloudproviderapi "k8s.io/cloud-provider/api"

	"baremetal.cloud/ccm/pkg/cloud/config"
)

// Reasons of Events on a Node that waits to be initialised.
const (
	// eventNotInitialized says why it goes on waiting.
	eventNotInitialized = "NodeNotInitialized"
	// eventLabelMissing means that it is initialised without its zone or region, which
	// no controller sets later.
	eventLabelMissing = "NodeLabelMissing"
)

// InstancesV2 initialises nodes where the cloud-config has the key nodes. Whether it does
// is decided at the start: the stock app starts its controller of nodes then or never.
func (p *Provider) InstancesV2() (cloudprovider.InstancesV2, bool) {
	nodes := p.nodes.Load()
	if nodes == nil {
		return nil, false
	}
	return instances{nodes: *nodes, events: p.recorder}, true
}

// instances answers the stock cloud-node-controller. There is no cloud to ask: all it
// knows is in the Node object, put there by the kubelet and by the people and programs that
// label nodes.
type instances struct {
	nodes  config.Nodes
	events record.EventRecorder
}

var _ cloudprovider.InstancesV2 = instances{}

// InstanceExists returns true: on false the stock cloud-node-lifecycle-controller, should a
// cluster run it, deletes the Node, and a machine that is silent is not gone.
func (i instances) InstanceExists(context.Context, *corev1.Node) (bool, error) { return true, nil }

// InstanceShutdown returns false: the CCM does not know of a machine that it was switched off.
func (i instances) InstanceShutdown(context.Context, *corev1.Node) (bool, error) { return false, nil }

// InstanceMetadata returns what the node is initialised with, and later its addresses. It
// never returns nil without an error, which the stock controller would not survive. The
// error says what the node lacks.
func (i instances) InstanceMetadata(_ context.Context, node *corev1.Node) (*cloudprovider.InstanceMetadata, error) {
	addresses, err := nodeAddresses(node)
	if err != nil {
		i.emitEvent(node, eventNotInitialized, err.Error())
		return nil, fmt.Errorf("node %s: %w", node.Name, err)
	}
	id := node.Spec.ProviderID // immutable once it is set
	if id == "" {
		id = i.nodes.ProviderIDOf(node.Name)
	}
	return &cloudprovider.InstanceMetadata{
		ProviderID:    id,
		NodeAddresses: addresses,
		Zone:          i.fromLabel(node, i.nodes.ZoneLabel, corev1.LabelTopologyZone),
		Region:        i.fromLabel(node, i.nodes.RegionLabel, corev1.LabelTopologyRegion),
	}, nil
}

// fromLabel returns the value of the node's label key, which the stock controller copies
// into the label target.
func (i instances) fromLabel(node *corev1.Node, key, target string) string {
	if key == "" {
		return ""
	}
	value := node.Labels[key]
	if value == "" {
		i.emitEvent(node, eventLabelMissing, fmt.Sprintf("the node has no label %s: %s is not set, and will not be set later; set both by hand", key, target))
	}
	return value
}

// emitEvent emits an Event about a node that waits to be initialised. The stock controller
// asks about the others too, every few minutes; those lack nothing new.
func (i instances) emitEvent(node *corev1.Node, reason, message string) {
	for _, taint := range node.Spec.Taints {
		if taint.Key == cloudproviderapi.TaintExternalCloudProvider {
			i.events.Event(node, corev1.EventTypeWarning, reason, message)
			return
		}
	}
}

// followNodes takes over how nodes are initialised. It cannot take over whether they are.
func (p *Provider) followNodes(nodes *config.Nodes) {
	served := p.nodes.Load() != nil
	if served == (nodes != nil) {
		p.nodes.Store(nodes)
		return
	}
	message := "the key nodes was added: nodes are initialised once baremetal-ccm is restarted"
	if served {
		message = "the key nodes was removed: nodes are initialised as before until baremetal-ccm is restarted"
	}
	p.options.Logger.Warn("cloud-config: " + message)
	p.recorder.Event(p.configMap(), corev1.EventTypeWarning, eventRestartNeeded, message)
}
