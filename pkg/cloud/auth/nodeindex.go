package auth

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"

	"baremetal.cloud/ccm/pkg/announcer/control"
)

var _ control.Nodes = (*Nodes)(nil)

// byNodeAddress is an index of Nodes by the addresses in their status.
const byNodeAddress = "baremetal-node-address"

// Nodes is a control.Nodes that an informer keeps.
type Nodes struct {
	indexer toolscache.Indexer
}

// NewNodes returns Nodes that have no address until Follow.
func NewNodes() *Nodes {
	return &Nodes{indexer: toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, addressIndexers())}
}

// Follow takes the addresses from informer, which has not been started. It is called before
// anything else is.
func (n *Nodes) Follow(informer toolscache.SharedIndexInformer) error {
	n.indexer = informer.GetIndexer()
	return informer.AddIndexers(addressIndexers())
}

// Has implements control.Nodes.
func (n *Nodes) Has(address netip.Addr) bool { return len(n.nodesWith(address)) > 0 }

// Owns implements control.Nodes.
func (n *Nodes) Owns(node string, address netip.Addr) bool {
	return slices.Contains(n.nodesWith(address), node)
}

// nodesWith returns the names of the Nodes that have address.
func (n *Nodes) nodesWith(address netip.Addr) []string {
	names, err := n.indexer.IndexKeys(byNodeAddress, address.Unmap().WithZone("").String())
	if err != nil {
		return nil // there is no such index: a test's informer, or Follow failed
	}
	return names
}

func addressIndexers() toolscache.Indexers {
	return toolscache.Indexers{byNodeAddress: func(obj any) ([]string, error) {
		node, ok := obj.(*corev1.Node)
		if !ok {
			return nil, nil
		}
		var out []string
		for _, address := range addressesOf(node) {
			out = append(out, address.String())
		}
		return out, nil
	}}
}

// addressesOf returns the IP addresses in the Node's status.
func addressesOf(node *corev1.Node) []netip.Addr {
	var addresses []netip.Addr
	for _, address := range node.Status.Addresses {
		if address.Type != corev1.NodeInternalIP && address.Type != corev1.NodeExternalIP {
			continue
		}
		if parsed, err := netip.ParseAddr(address.Address); err == nil {
			addresses = append(addresses, parsed.Unmap())
		}
	}
	return addresses
}
