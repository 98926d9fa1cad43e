package loadbalancer

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/reason"
)

// A node that says that it cannot answer for an address (announcement.Problem) is taken at
// its word, which costs nobody but itself: it gives way where another node may answer, as
// owner and as backup, and stays where none may. That holds until it claims the address, says
// nothing of a problem although a list names it, has other interfaces, or connects anew.
// A node that no list names any more says nothing either way: forgetting then would have two
// such nodes take turns for ever.

// unable reports whether node said that it cannot answer for address.
func (b *Balancer) unable(node string, address netip.Addr) bool {
	return b.problem(node, address) != ""
}

// problem returns why node cannot answer for address, as it said, or "".
func (b *Balancer) problem(node string, address netip.Addr) reason.Reason {
	known, ok := b.announcer[node]
	if !ok {
		return ""
	}
	return known.unable[address]
}

// believe takes over what the last report of node says of problems, and has the addresses
// decided again for which that is news. fresh says that the node may be able now to do what
// it could not before.
func (b *Balancer) believe(node string, fresh bool) {
	known := b.announcer[node]
	for _, p := range known.report.Problems {
		if known.unable[p.Address] == "" {
			b.plan.touch(p.Address)
		}
		if known.unable == nil {
			known.unable = map[netip.Addr]reason.Reason{}
		}
		known.unable[p.Address] = p.Reason
	}
	for address := range known.unable {
		if _, still := findProblem(known.report, address); !still && (fresh || b.overcame(node, address)) {
			delete(known.unable, address)
			b.plan.touch(address)
		}
	}
}

// overcame reports whether node, which says nothing of a problem with address, shows by
// that that it has none.
func (b *Balancer) overcame(node string, address netip.Addr) bool {
	list, ok := b.plan.lists[address]
	told := slices.Contains(list.Candidates, node) && b.announcer[node].report.Plan.Compare(list.Stamp) >= 0
	return !ok || told || b.claims(node, address)
}

// gavePlace reports whether the owner of an address does not answer for it because it cannot,
// and another node may that can, as far as is known.
func (b *Balancer) gavePlace(f *field, owner string) bool {
	return b.connected(owner) && b.unable(owner, f.address) && !b.claims(owner, f.address) &&
		b.elect(b.fit(f.ranked(), f.address), f.address) != ""
}

// fit returns those of nodes that did not say that they cannot answer for address.
func (b *Balancer) fit(nodes []string, address netip.Addr) []string {
	return slices.DeleteFunc(slices.Clone(nodes), func(name string) bool { return b.unable(name, address) })
}
