package reason

import (
	"fmt"
	"strings"
)

// maxNamed is how many nodes a message names; it counts the others.
const maxNamed = 3

// Nodes prints "3 nodes (node1, node2, node3)", or "node node1" for a single one.
func Nodes(names []string) string {
	switch {
	case len(names) == 0:
		return "no node"
	case len(names) == 1:
		return "node " + names[0]
	}
	return fmt.Sprintf("%d nodes (%s)", len(names), Names(names))
}

// Names prints a few names and counts the others, "node1, node2, node3 and 4 more".
func Names(names []string) string {
	if more := len(names) - maxNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), more)
	}
	return strings.Join(names, ", ")
}

// sentence is how a message counts the nodes of one Reason: for one node and for several.
// NODES stands for their number and names, DETAIL for what the Reason depends on.
type sentence struct{ one, several string }

// same is a sentence without a verb that agrees with its nodes.
func same(text string) sentence { return sentence{text, text} }

// sentences are those of the Reasons for which nodes are counted in the condition
// baremetal.cloud/Announced.
var sentences = map[Reason]sentence{
	NodeExcluded: {
		"NODES has the label node.kubernetes.io/exclude-from-external-load-balancers",
		"NODES have the label node.kubernetes.io/exclude-from-external-load-balancers"},
	NodeNotSelected:        {"NODES does not match nodeSelector DETAIL", "NODES do not match nodeSelector DETAIL"},
	NodeNetworkUnavailable: {"NODES has the condition NetworkUnavailable", "NODES have the condition NetworkUnavailable"},
	NodeDeleting:           {"NODES is being deleted", "NODES are being deleted"},
	NodeNotConnected:       same("no announcer of NODES is connected to the leader"),
	NodeNoInterface:        same("DETAIL on NODES"),
	NodeOffSegment:         {"NODES is not on the address's segment", "NODES are not on the address's segment"},
	NodeNoRouteBack:        same("on NODES DETAIL, for want of a route or a usable address"),
	HeartbeatsNotSent:      {"NODES cannot send heartbeats", "NODES cannot send heartbeats"},
	NodeNoEndpoint:         {"NODES has no usable endpoint", "NODES have no usable endpoint"},
	AddressIsLocal:         same("the address belongs to DETAILNODES"),
	NodeNoPeer:             {"NODES has none of the BGP peers DETAIL", "NODES have none of the BGP peers DETAIL"},
	NodeLabelInvalid:       same("the labels of NODES make no valid BGP peer of DETAIL"),
	KubeProxyUnhealthy:     {"kube-proxy of NODES does not work", "kube-proxy of NODES does not work"},
	NodeCordoned:           {"NODES is cordoned", "NODES are cordoned"},
}

// OfNodes says in words, with number and names, that nodes are concerned by why. The detail
// is what it depends on, a selector or an interface for instance. A Reason without words of
// its own is named with its count.
func OfNodes(why Reason, nodes []string, detail string) string {
	s, ok := sentences[why]
	if !ok {
		s = same(string(why) + " on NODES")
	}
	text := s.several
	if len(nodes) == 1 {
		text = s.one
	}
	return strings.NewReplacer("NODES", Nodes(nodes), "DETAIL", detail).Replace(text)
}
