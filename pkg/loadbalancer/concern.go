package loadbalancer

import (
	"net/netip"
	"slices"
)

// nodeChanged has the addresses decided again that what is known of a node may concern:
// those whose lists name it, those that it would be of use for, and those that nobody may
// answer for, which say why for each node. All others would come out as they are.
func (b *Balancer) nodeChanged(name string) {
	p := &b.plan
	if p.all {
		return
	}
	for address := range p.members[name] {
		p.touch(address)
	}
	if len(b.bgp.Pools) > 0 {
		b.touchRouted()
	}
	for address := range p.short {
		p.touch(address)
	}
	if b.connected(name) && b.unhealthy(name) == "" {
		for address := range p.stuck {
			p.touch(address)
		}
	}
	for address := range p.wanting {
		if _, ok := p.lists[address]; !ok || b.useful(name, address) {
			p.touch(address)
		}
	}
	for address := range p.uniform {
		if b.elsewhere(p.owner(address))(name) && b.useful(name, address) {
			p.touch(address)
		}
	}
}

// useful reports whether a node could be added to the list of address.
func (b *Balancer) useful(name string, address netip.Addr) bool {
	n, ok := b.nodes[name]
	return ok && b.connected(name) && !slices.Contains(b.plan.lists[address].Candidates, name) &&
		b.eligible(n, address, b.l2[b.addresses.PoolOf(address)]) == ""
}
