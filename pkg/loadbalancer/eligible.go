package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// mayAnswerFor says why node may not answer for address, or "" where it may. It does not
// ask whether the node's announcer is connected: that matters only for placing anew.
func (b *Balancer) mayAnswerFor(n Node, address netip.Addr, l2 L2) reason.Reason {
	if why := b.mayServe(n, l2.NodeSelector); why != "" {
		return why
	}
	if why := b.canCarry(n.Name, address, l2.Interface); why != "" {
		return why
	}
	if l2.Interface == "" && b.offSegment(n.Name, address) {
		return reason.NodeOffSegment
	}
	if !b.isReachable(n.Name, address) {
		return reason.NodeNoEndpoint
	}
	return ""
}

// mayServe says why node may not serve any address of a pool with that selector, or "".
func (b *Balancer) mayServe(n Node, selector ipam.Selector) reason.Reason {
	switch {
	case n.Deleting:
		return reason.NodeDeleting
	case n.Excluded:
		return reason.NodeExcluded
	case n.NetworkUnavailable:
		return reason.NodeNetworkUnavailable
	case selector != nil && !selector.Matches(n.Labels):
		return reason.NodeNotSelected
	}
	return ""
}

// canCarry says why the node's interfaces, as its announcer reports them, cannot carry
// address, or "". A node that was never heard is believed to; it is not placed on anyway.
func (b *Balancer) canCarry(node string, address netip.Addr, selector string) reason.Reason {
	known, ok := b.announcer[node]
	if !ok {
		return ""
	}
	if b.isLocal(node, address) || b.conflicts.routers[address] {
		return reason.AddressIsLocal
	}
	if _, err := plan.SelectInterfaces(selector, address, known.report.Interfaces); err != nil {
		return plan.SelectionReason(err)
	}
	return ""
}

// isReachable reports whether a Service that holds address can be reached from node: with
// externalTrafficPolicy Cluster when it has a usable endpoint of the address's family
// anywhere, with Local when it has one there.
func (b *Balancer) isReachable(node string, address netip.Addr) bool {
	f := ipam.FamilyOf(address)
	return slices.ContainsFunc(b.holdersOf(address), func(s *service) bool {
		r := b.endpoints[s.Key()].ofFamily(f)
		if s.Sharing.Local {
			return r.hasNode(node)
		}
		return r.Any
	})
}

// hasEndpoint reports whether a Service that holds address has a usable endpoint of family f.
func (b *Balancer) hasEndpoint(address netip.Addr, f ipam.Family) bool {
	return slices.ContainsFunc(b.holdersOf(address), func(s *service) bool { return b.endpoints[s.Key()].ofFamily(f).Any })
}

// noEndpoints reports whether no Service that holds address has a usable endpoint of its family.
func (b *Balancer) noEndpoints(address netip.Addr) Verdict {
	f, other := ipam.FamilyOf(address), ipam.IPv6
	if f == ipam.IPv6 {
		other = ipam.IPv4
	}
	missing := "no usable endpoint"
	if b.hasEndpoint(address, other) {
		missing = fmt.Sprintf("usable %s endpoints and no %s one", other, f)
	}
	return Verdict{Reason: reason.NoEndpoints, Message: fmt.Sprintf("the Service has %s, so no node answers for %s", missing, address)}
}

// holdersOf returns the Services that hold address, oldest first.
func (b *Balancer) holdersOf(address netip.Addr) []*service {
	var out []*service
	for _, h := range b.addresses.Holders(address) {
		if s, ok := b.services[h.UID]; ok {
			out = append(out, s)
		}
	}
	return out
}

// noCandidate says why no node may answer for address.
func (b *Balancer) noCandidate(address netip.Addr) Verdict {
	pool := b.addresses.PoolOf(address)
	if pool == "" {
		return Verdict{Reason: reason.AddressOutsidePools, Message: fmt.Sprintf("address %s is in no pool and is not announced", address)}
	}
	l2, announced := b.l2[pool]
	switch {
	case !announced:
		return Verdict{Reason: reason.NoEligibleNode, Message: fmt.Sprintf("pool %s is not announced", pool)}
	case !b.hasEndpoint(address, ipam.FamilyOf(address)):
		return b.noEndpoints(address)
	case len(b.nodes) == 0:
		return Verdict{Reason: reason.NoEligibleNode, Message: "the cluster has no nodes"}
	}
	refused := refusals{}
	for _, n := range b.nodes {
		why := b.mayAnswerFor(n, address, l2)
		// An announcer that ended said before that it has no interface.
		if why == "" || why == reason.NodeNoInterface && !b.isConnected(n.Name) {
			why = reason.NodeNotConnected
		}
		refused.add(n.Name, why, b.detailOf(n.Name, address, why, l2))
	}
	if refused.have(reason.NodeNoEndpoint) {
		return Verdict{Reason: reason.NoLocalEndpoints, Message: fmt.Sprintf("no node that may answer for %s has a usable endpoint (externalTrafficPolicy Local): %s", address, refused)}
	}
	return Verdict{Reason: reason.NoEligibleNode, Message: fmt.Sprintf("no node may answer for %s: %s", address, refused)}
}

func (b *Balancer) isConnected(node string) bool {
	known, ok := b.announcer[node]
	return ok && known.connected
}
