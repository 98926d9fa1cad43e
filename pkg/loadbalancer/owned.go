package loadbalancer

import (
	"net/netip"
	"slices"
)

// maxOwned bounds the addresses of pools that one node keeps from new allocations. Its Node
// object and what its announcer reports are one machine's word.
const maxOwned = 64

// setRouters takes over the addresses of the BGP peers.
func (b *Balancer) setRouters(addresses []netip.Addr) {
	before := b.conflicts.routers
	b.conflicts.routers = map[netip.Addr]bool{}
	for _, a := range addresses {
		b.conflicts.routers[a] = true
		b.plan.markDirty(a)
	}
	for a := range before {
		b.plan.markDirty(a)
	}
	b.conflicts.renew = true
}

// markAddressesDirty marks the addresses dirty that a node has now or had before.
func (b *Balancer) markAddressesDirty(addresses ...[]netip.Addr) {
	for _, list := range addresses {
		for _, a := range list {
			b.plan.markDirty(a)
		}
	}
}

// isLocal reports whether address is one of the node's own, as its announcer or its Node object
// has it. That keeps only the node itself from answering: another one's word counts for nothing.
func (b *Balancer) isLocal(node string, address netip.Addr) bool {
	return slices.Contains(b.nodes[node].Addresses, address) || slices.Contains(b.reportedAddresses(node), address)
}

// reportedAddresses returns the addresses of the node's interfaces, as its announcer reports them, or did
// before it ended: the node has them still.
func (b *Balancer) reportedAddresses(node string) []netip.Addr {
	known, ok := b.announcer[node]
	if !ok {
		return nil
	}
	var out []netip.Addr
	for _, i := range known.interfaces {
		for _, p := range i.Prefixes {
			out = append(out, p.Addr())
		}
	}
	return out
}

// ownedAddresses returns the addresses of pools that are a router's or a node's, of which
// maxOwned of a node count: those of its Node object first. Of two nodes that have one the
// first by name is named.
func (b *Balancer) ownedAddresses() map[netip.Addr]Machine {
	out := map[netip.Addr]Machine{}
	for a := range b.conflicts.routers {
		if b.addresses.PoolOf(a) != "" {
			out[a] = Machine{Owner: "a BGP peer"}
		}
	}
	for name, n := range b.nodes {
		mine := map[netip.Addr]bool{}
		for _, a := range slices.Concat(n.Addresses, b.reportedAddresses(name)) {
			if b.addresses.PoolOf(a) == "" || mine[a] {
				continue
			}
			if len(mine) == maxOwned {
				break
			}
			mine[a] = true
			m := Machine{Owner: "node " + name}
			if known, ok := out[a]; !ok || m.Owner < known.Owner && known.Owner != "a BGP peer" {
				out[a] = m
			}
		}
	}
	return out
}
