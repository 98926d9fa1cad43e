package cloud

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	cloudproviderapi "k8s.io/cloud-provider/api"
)

// errNoAddress is what a kubelet with --cloud-provider=external and without --node-ip
// brings about: it leaves finding an address to a cloud.
var errNoAddress = errors.New("neither its status nor the annotation " + cloudproviderapi.AnnotationAlphaProvidedIPAddr +
	" has an address: start its kubelet with --node-ip=ADDRESS")

// nodeAddresses returns the addresses of a node: those in its status, those that its
// kubelet was given by --node-ip, and its host name. Where --node-ip changed, the stock
// controller drops the address before it (node/helpers.GetNodeAddressesFromNodeIP).
func nodeAddresses(node *corev1.Node) ([]corev1.NodeAddress, error) {
	provided, err := providedAddresses(node)
	if err != nil {
		return nil, err
	}
	addresses := slices.Clone(node.Status.Addresses)
	for _, p := range provided {
		if !slices.ContainsFunc(addresses, func(a corev1.NodeAddress) bool { return a.Type == corev1.NodeInternalIP && parseNodeAddress(a) == p }) {
			addresses = append(addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: p.String()})
		}
	}
	if !slices.ContainsFunc(addresses, isIP) {
		return nil, errNoAddress
	}
	if !slices.ContainsFunc(addresses, func(a corev1.NodeAddress) bool { return a.Type == corev1.NodeHostName }) {
		addresses = append(addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: hostName(node)})
	}
	return addresses, nil
}

// providedAddresses reads the annotation that carries the kubelet's --node-ip: one
// address, or one of each family, separated by a comma.
func providedAddresses(node *corev1.Node) ([]netip.Addr, error) {
	text, ok := node.Annotations[cloudproviderapi.AnnotationAlphaProvidedIPAddr]
	if !ok {
		return nil, nil
	}
	var addresses []netip.Addr
	for part := range strings.SplitSeq(text, ",") {
		a, err := netip.ParseAddr(part)
		if a = a.Unmap(); err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
			return nil, fmt.Errorf("annotation %s: %q cannot be the address of a node: start its kubelet with --node-ip=ADDRESS",
				cloudproviderapi.AnnotationAlphaProvidedIPAddr, part)
		}
		addresses = append(addresses, a)
	}
	return addresses, nil
}

// isIP reports whether a is an address that others can reach the node by. A host name
// that looks like one is not.
func isIP(a corev1.NodeAddress) bool {
	return (a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP) && parseNodeAddress(a).IsValid()
}

// parseNodeAddress returns the address in a, or the zero Addr.
func parseNodeAddress(a corev1.NodeAddress) netip.Addr {
	address, err := netip.ParseAddr(a.Address)
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap()
}

// hostName returns the node's host name, which its kubelet wrote into a label.
func hostName(node *corev1.Node) string {
	if name := node.Labels[corev1.LabelHostname]; name != "" {
		return name
	}
	return node.Name
}
