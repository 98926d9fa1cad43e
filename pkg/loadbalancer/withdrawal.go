package loadbalancer

import (
	"net/netip"
	"slices"
)

// startWithdrawals keeps freed addresses from being given out while a node may still
// answer for them: the owner, or a backup that answers in its place.
func (b *Balancer) startWithdrawals(freed []netip.Addr) {
	for _, address := range freed {
		if len(b.addresses.Holders(address)) > 0 {
			continue
		}
		var from []string
		for i, name := range b.plan.lists[address].Candidates {
			if i == 0 || b.hasClaimed(name, address) {
				from = append(from, name)
			}
		}
		if name := b.plan.withdrawn[address]; name != "" {
			from = append(from, name)
		}
		told := b.routingNodes(address)
		if len(from) > 0 {
			b.withdrawing[address] = from
		}
		if len(told) > 0 {
			b.withdrawingRoutes[address] = told
		}
		if len(from)+len(told) > 0 {
			b.addresses.Withdraw(address)
		}
	}
}

// takeWithdrawals takes over what node says about addresses that lost their last holder. A
// backup may have begun to answer before it heard of that.
func (b *Balancer) takeWithdrawals(node string) {
	for address, from := range b.withdrawing {
		switch {
		case b.hasWithdrawn(node, address):
			b.stopWaiting(address, node)
		case b.hasClaimed(node, address) && !slices.Contains(from, node):
			b.withdrawing[address] = append(from, node)
		}
	}
}

// stopWaiting notes that node no longer answers for address.
func (b *Balancer) stopWaiting(address netip.Addr, node string) {
	from, ok := b.withdrawing[address]
	if !ok {
		return
	}
	b.withdrawing[address] = slices.DeleteFunc(from, func(name string) bool { return name == node })
	if len(b.withdrawing[address])+len(b.withdrawingRoutes[address]) == 0 {
		b.endWithdrawal(address)
	}
}

// endWithdrawal makes address available again.
func (b *Balancer) endWithdrawal(address netip.Addr) {
	_, answered := b.withdrawing[address]
	_, routed := b.withdrawingRoutes[address]
	if answered || routed {
		delete(b.withdrawing, address)
		delete(b.withdrawingRoutes, address)
		b.addresses.Withdrawn(address)
		b.offers.addresses[address] = true
	}
}

// hasWithdrawn reports whether node has carried out a plan without address and claims
// it no more.
func (b *Balancer) hasWithdrawn(node string, address netip.Addr) bool {
	if slices.Contains(b.plan.lists[address].Candidates, node) {
		return false // not planned away yet
	}
	return !b.hasClaimed(node, address) && b.announcer[node].report.Plan.Compare(b.plan.sets[node].Version) >= 0
}
