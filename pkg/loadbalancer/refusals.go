package loadbalancer

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// refusals are the nodes that may not announce an address, by the cause.
type refusals map[cause][]string

// cause is why nodes may not announce an address: a Reason, and what it depends on.
type cause struct {
	reason reason.Reason
	detail string
}

func (r refusals) add(node string, why reason.Reason, detail string) {
	c := cause{why, detail}
	r[c] = append(r[c], node)
}

// have reports whether a node is refused for that reason.
func (r refusals) have(why reason.Reason) bool {
	for c := range r {
		if c.reason == why {
			return true
		}
	}
	return false
}

// String names the causes with the number and the names of their nodes, most first.
func (r refusals) String() string {
	order := slices.SortedFunc(maps.Keys(r), func(x, y cause) int {
		return cmp.Or(len(r[y])-len(r[x]), cmp.Compare(x.reason, y.reason), cmp.Compare(x.detail, y.detail))
	})
	var out []string
	for _, c := range order {
		out = append(out, reason.OfNodes(c.reason, slices.Sorted(slices.Values(r[c])), c.detail))
	}
	return strings.Join(out, "; ")
}

// detailOf returns what it depends on that node may not answer for address: the selector
// that does not match, or what is wrong with its interfaces.
func (b *Balancer) detailOf(node string, address netip.Addr, why reason.Reason, l2 L2) string {
	switch why {
	case reason.NodeNotSelected:
		return fmt.Sprint(l2.NodeSelector)
	case reason.AddressIsLocal:
		return b.localDetail(node, address)
	case reason.NodeNoRouteBack, reason.NodeNoInterface:
		return b.interfaceDetail(node, address, l2.Interface)
	}
	return ""
}

// localDetail says what has the address that is in the way of node: "" for the node itself,
// else a BGP peer of it.
func (b *Balancer) localDetail(node string, address netip.Addr) string {
	if b.isLocal(node, address) {
		return ""
	}
	return "a BGP peer of "
}

// interfaceDetail says what is wrong with the interfaces of node, so that the same of several
// nodes is the same text.
func (b *Balancer) interfaceDetail(node string, address netip.Addr, selector string) string {
	known, ok := b.announcer[node]
	if !ok {
		return "no interface"
	}
	_, err := plan.SelectInterfaces(selector, address, known.report.Interfaces)
	switch e := err.(type) { //nolint:errorlint // it is not wrapped
	case nil:
		return "no interface"
	case *plan.NoRouteBackError:
		return fmt.Sprintf("%s cannot send %s", e.Interface, ipam.FamilyOf(address))
	}
	down := func(name string) bool {
		return slices.ContainsFunc(known.report.Interfaces, func(i plan.Interface) bool { return i.Name == name && i.Down })
	}
	target, reaching := strings.CutPrefix(selector, "can_reach:")
	switch {
	case strings.HasSuffix(err.Error(), "is down"):
		return err.Error()
	case selector == "" || selector == plan.OnLinkOnly:
		return "no usable interface"
	case reaching:
		return "no interface towards " + target
	case selector[0] == '/':
		return "no interface matching " + selector
	case down(selector):
		return fmt.Sprintf("interface %s is down", selector)
	}
	return "no interface " + selector
}
