package loadbalancer

import (
	"cmp"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// Owner returns the node that acknowledged answering for address, or "", and why: as the
// condition says it, which is WaitingForAnnouncer while a node is about to; "" for an address
// that no Service holds.
func (b *Balancer) Owner(address netip.Addr) (node string, why reason.Reason) {
	if len(b.addresses.Holders(address)) == 0 {
		return "", ""
	}
	verdict, node := b.announcedVerdict(ipam.Assignment{Address: address, Pool: b.addresses.PoolOf(address)})
	return node, verdict.Reason
}

// Left says why address is no longer with node, although its Service may be reached, as far
// as is known by now: of several causes the one that leaves the node no choice.
func (b *Balancer) Left(node string, address netip.Addr) reason.Reason {
	n, exists := b.nodes[node]
	known, heard := b.announcer[node]
	switch {
	case !exists:
		return reason.NodeDeleting
	case heard && len(known.report.Interfaces) == 0:
		return reason.AnnouncerStopped
	case b.foundDown(node, address):
		return reason.NodeDown
	}
	if why := b.mayAnswerFor(n, address, b.l2[b.addresses.PoolOf(address)]); why != "" {
		return why
	}
	if why := b.problemOf(node, address); why != "" {
		return why
	}
	if t := b.rebalancing.moved[address]; t.from == node && t.to == b.plan.ownerOf(address) {
		return reason.Rebalanced
	}
	return cmp.Or(b.unhealthyReason(node), reason.ClaimReleased)
}

// foundDown reports whether a candidate for address finds node down.
func (b *Balancer) foundDown(node string, address netip.Addr) bool {
	return slices.ContainsFunc(b.plan.lists[address].Candidates, func(name string) bool {
		known, ok := b.announcer[name]
		return ok && known.connected && slices.Contains(known.report.Down, node)
	})
}

// Announcements counts the addresses that Services hold by the reason of their
// announcement, which is Announced where a node answers.
func (b *Balancer) Announcements() map[reason.Reason]int {
	out, seen := map[reason.Reason]int{}, map[netip.Addr]bool{}
	for _, s := range b.services {
		for _, a := range s.result.Assignments {
			if seen[a.Address] {
				continue
			}
			seen[a.Address] = true
			verdict, _ := b.announcedVerdict(a)
			out[verdict.Reason]++
		}
	}
	return out
}
