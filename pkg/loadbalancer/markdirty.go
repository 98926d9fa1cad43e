package loadbalancer

import (
	"net/netip"
	"slices"
)

// markNodeDirty marks the addresses dirty that what is known of a node may concern: those
// with the node in their lists, those that it would be of use for, and those that no node
// may answer for, as these give a reason for each node. All others would come out
// unchanged.
func (b *Balancer) markNodeDirty(name string) {
	p := &b.plan
	if p.all {
		return
	}
	for address := range p.addressesByNode[name] {
		p.markDirty(address)
	}
	if len(b.bgp.Pools) > 0 {
		b.touchRouted()
	}
	for address := range p.underReplicated {
		p.markDirty(address)
	}
	if b.isConnected(name) && b.unhealthyReason(name) == "" {
		for address := range p.draining {
			p.markDirty(address)
		}
	}
	for address := range p.wantsBackup {
		if _, ok := p.lists[address]; !ok || b.couldAdd(name, address) {
			p.markDirty(address)
		}
	}
	for address := range p.sameZone {
		if b.inOtherZone(p.ownerOf(address))(name) && b.couldAdd(name, address) {
			p.markDirty(address)
		}
	}
}

// couldAdd reports whether a node could be added to the list of address.
func (b *Balancer) couldAdd(name string, address netip.Addr) bool {
	n, ok := b.nodes[name]
	return ok && b.isConnected(name) && !slices.Contains(b.plan.lists[address].Candidates, name) &&
		b.mayAnswerFor(n, address, b.l2[b.addresses.PoolOf(address)]) == ""
}
