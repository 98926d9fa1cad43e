package cloud

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// eventLabelValid ends what NodeLabelInvalid began.
const eventLabelValid = "NodeLabelValid"

// tellInvalidPeers writes an Event on the Node for each BGP peer that it has not because of what its
// labels say, unless that is among those told before. It returns the ones told. A standby tells
// nothing.
func (p *Provider) tellInvalidPeers(before []loadbalancer.InvalidPeer) (told []loadbalancer.InvalidPeer) {
	if !p.publishing.Load() {
		return nil
	}
	now := p.core.invalidPeers()
	for _, m := range now {
		if !slices.Contains(before, m) {
			p.recorder.Event(p.nodeObject(m.Node), corev1.EventTypeWarning, string(reason.NodeLabelInvalid), fmt.Sprintf("BGP peer %s: %s", m.Peer, m.Message))
			p.options.Logger.Warn("a BGP peer cannot be made from a node's labels", "node", m.Node, "peer", m.Peer, "err", m.Message)
		}
	}
	for _, m := range before {
		if !slices.ContainsFunc(now, func(n loadbalancer.InvalidPeer) bool { return n.Node == m.Node && n.Peer == m.Peer }) {
			p.recorder.Event(p.nodeObject(m.Node), corev1.EventTypeNormal, eventLabelValid, fmt.Sprintf("BGP peer %s: the node's labels are not in its way any longer", m.Peer))
			p.options.Logger.Info("a node's labels are in the way of a BGP peer no longer", "node", m.Node, "peer", m.Peer)
		}
	}
	return now
}
