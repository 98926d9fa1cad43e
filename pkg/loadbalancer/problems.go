package loadbalancer

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/reason"
)

// A node that reports that it cannot answer for an address (plan.Problem) is taken at its
// word, which costs no node but itself: it gives way where another node may answer, as owner
// and as backup, and stays where none may. That holds until it claims the address, says
// nothing of a problem although a list names it, has other interfaces, or connects anew. A
// node that no list names says nothing either way: if it were forgotten then, two such nodes
// would take turns for ever.

// isUnable reports whether node said that it cannot answer for address.
func (b *Balancer) isUnable(node string, address netip.Addr) bool {
	return b.problemOf(node, address) != ""
}

// problemOf returns why node cannot answer for address, as it said, or "".
func (b *Balancer) problemOf(node string, address netip.Addr) reason.Reason {
	known, ok := b.announcer[node]
	if !ok {
		return ""
	}
	return known.unable[address]
}

// takeProblems takes over what the last report of node says of problems, and marks the
// addresses dirty for which that is news. fresh reports whether the node may be able now to do
// what it could not before.
func (b *Balancer) takeProblems(node string, fresh bool) {
	known := b.announcer[node]
	for _, p := range known.report.Problems {
		if known.unable[p.Address] == "" {
			b.plan.markDirty(p.Address)
		}
		if known.unable == nil {
			known.unable = map[netip.Addr]reason.Reason{}
		}
		known.unable[p.Address] = p.Reason
	}
	for address := range known.unable {
		if _, still := findProblem(known.report, address); !still && (fresh || b.hasRecovered(node, address)) {
			delete(known.unable, address)
			b.plan.markDirty(address)
		}
	}
}

// hasRecovered reports whether node, which says nothing of a problem with address, shows by
// that that it has none.
func (b *Balancer) hasRecovered(node string, address netip.Addr) bool {
	list, ok := b.plan.lists[address]
	told := slices.Contains(list.Candidates, node) && b.announcer[node].report.Plan.Compare(list.Version) >= 0
	return !ok || told || b.hasClaimed(node, address)
}

// gavePlace reports whether the owner of an address does not answer for it because it cannot,
// and another node may that can, as far as is known.
func (b *Balancer) gavePlace(f *candidateSet, owner string) bool {
	return b.isConnected(owner) && b.isUnable(owner, f.address) && !b.hasClaimed(owner, f.address) &&
		b.leastLoaded(b.ableNodes(f.rankedNodes(), f.address), f.address) != ""
}

// ableNodes returns those of nodes that did not report that they cannot answer for address.
func (b *Balancer) ableNodes(nodes []string, address netip.Addr) []string {
	return slices.DeleteFunc(slices.Clone(nodes), func(name string) bool { return b.isUnable(name, address) })
}
