package loadbalancer

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/ipam"
)

// startWithdrawals keeps freed addresses from being given out while a node may still
// answer for them.
func (b *Balancer) startWithdrawals(freed []netip.Addr) {
	for _, address := range freed {
		if len(b.addresses.Holders(address)) > 0 {
			continue
		}
		if owner := b.plan.owner(address); owner != "" {
			b.withdrawing[address] = owner
			b.addresses.Block(address, ipam.Withdrawing)
		}
	}
}

// endWithdrawal makes address available again.
func (b *Balancer) endWithdrawal(address netip.Addr) {
	if _, ok := b.withdrawing[address]; ok {
		delete(b.withdrawing, address)
		b.addresses.Unblock(address, ipam.Withdrawing)
		b.freed = true
	}
}

// hasWithdrawn reports whether node has carried out a plan without address and claims
// it no more.
func (b *Balancer) hasWithdrawn(node string, address netip.Addr) bool {
	if b.plan.owner(address) == node {
		return false // not planned away yet
	}
	report := b.announcer[node].report
	if _, claims := findClaim(report, address); claims {
		return false
	}
	return report.Plan.Compare(b.plan.sets[node].Stamp) >= 0
}

func findClaim(report announcement.Report, address netip.Addr) (announcement.Claim, bool) {
	i, ok := slices.BinarySearchFunc(report.Claims, address, func(c announcement.Claim, x netip.Addr) int { return c.Address.Compare(x) })
	if !ok {
		return announcement.Claim{}, false
	}
	return report.Claims[i], true
}
