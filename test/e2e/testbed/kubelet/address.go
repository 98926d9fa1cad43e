package kubelet

import (
	corev1 "k8s.io/api/core/v1"
	cloudproviderapi "k8s.io/cloud-provider/api"
)

// uninitialized keeps Pods off a node until a cloud-controller-manager knows it.
var uninitialized = corev1.Taint{
	Key: cloudproviderapi.TaintExternalCloudProvider, Value: "true", Effect: corev1.TaintEffectNoSchedule,
}

// fillAddresses does what a kubelet v1.37 with --node-ip=V4,V6 does, for the addresses
// of the cluster's own traffic (pkg/kubelet/nodestatus, func NodeAddress): an external
// cloud is told them in an annotation, and addresses that are in status already are its
// business. Without a cloud those on the LAN are listed, too.
func (a *Agent) fillAddresses(node *corev1.Node) {
	primary := a.Node.Primary()
	list := []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: primary.V4.String()},
		{Type: corev1.NodeInternalIP, Address: primary.V6.String()},
	}
	if a.External {
		if node.Annotations == nil {
			node.Annotations = map[string]string{}
		}
		node.Annotations[cloudproviderapi.AnnotationAlphaProvidedIPAddr] = primary.V4.String() + "," + primary.V6.String()
		if len(node.Status.Addresses) > 0 {
			return
		}
	} else if primary != a.Node.LAN {
		list = append(list,
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.Node.LAN.V4.String()},
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.Node.LAN.V6.String()})
	}
	node.Status.Addresses = append(list, corev1.NodeAddress{Type: corev1.NodeHostName, Address: a.Node.Name})
}
