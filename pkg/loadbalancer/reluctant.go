package loadbalancer

import (
	"fmt"
	"net/netip"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// reluctance says why node, which may answer for addresses, is to have others answer where
// it can be helped, or "". Unlike what makes a node not eligible it never leaves an address
// with nobody.
func (b *Balancer) reluctance(node string) reason.Reason {
	switch {
	case b.drainOnCordon && b.nodes[node].Cordoned:
		return reason.NodeCordoned
	case b.connected(node) && b.announcer[node].report.Unwell:
		return reason.NodeUnwell
	}
	return ""
}

// stick notes that the owner of address is reluctant and keeps it, unstick that it does not.
func (b *Balancer) stick(address netip.Addr) {
	b.plan.stuck[address] = true
	b.plan.decided[address] = true // its message says so
}

func (b *Balancer) unstick(address netip.Addr) {
	if b.plan.stuck[address] {
		delete(b.plan.stuck, address)
		b.plan.decided[address] = true
	}
}

// stuckWith says why the owner of list is to give its address up, where it keeps it because
// nobody else may take it.
func (b *Balancer) stuckWith(list announcement.Announcement) string {
	why := b.reluctance(list.Candidates[0])
	if !b.plan.stuck[list.Address] || why == "" {
		return ""
	}
	return fmt.Sprintf(" (%s: by a node that should not, because no other may)", why)
}

// healthPort returns where nodes ask whether they serve address by an endpoint of their own,
// or 0: what the oldest of its Services has. Where all endpoints are ending the port says no on
// every node, those included that still serve.
func (b *Balancer) healthPort(address netip.Addr) uint16 {
	if b.health.Proxy == "" {
		return 0
	}
	for _, s := range b.holdersOf(address) {
		if s.Sharing.Local && s.HealthPort != 0 && !b.endpoints[s.Key()].of(ipam.FamilyOf(address)).Ending {
			return s.HealthPort
		}
	}
	return 0
}
