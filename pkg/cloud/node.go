package cloud

import (
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/pkg/loadbalancer"
)

// nodeOf translates a Node. Ready is left out on purpose: it moves nothing, because a node
// with a silent kubelet may well be answering.
func nodeOf(n *corev1.Node) loadbalancer.Node {
	out := loadbalancer.Node{
		Name:     n.Name,
		Labels:   n.Labels,
		Zone:     n.Labels[zoneLabel],
		Excluded: isExcluded(n.Labels),
		Deleting: n.DeletionTimestamp != nil,
		Cordoned: n.Spec.Unschedulable,
	}
	for _, a := range n.Status.Addresses {
		if address, err := netip.ParseAddr(a.Address); err == nil {
			out.Addresses = append(out.Addresses, address.Unmap())
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue {
			out.NetworkUnavailable = true
		}
	}
	return out
}

// isExcluded reads the exclude label as the stock service controller does: any value but
// one that parses as false excludes.
func isExcluded(labels map[string]string) bool {
	value, ok := labels[corev1.LabelNodeExcludeBalancers]
	if !ok {
		return false
	}
	exclude, err := strconv.ParseBool(value)
	return err != nil || exclude
}
