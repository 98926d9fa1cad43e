package loadbalancer

import (
	"fmt"
	"net/netip"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// reluctance says why node, which may answer for addresses, is to have others answer where
// it can be helped, or "". Unlike what makes a node not eligible it never leaves an address
// with nobody.
func (b *Balancer) reluctance(node string) reason.Reason {
	why := b.unhealthy(node)
	if why == reason.NodeUnwell && !b.announcer[node].unwell {
		return ""
	}
	return why
}

// unhealthy says why node is not to be given addresses of a reluctant one, or "": what it said
// last counts at once, so that health moves nothing to a node that is no healthier.
func (b *Balancer) unhealthy(node string) reason.Reason {
	switch {
	case b.drainOnCordon && b.nodes[node].Cordoned:
		return reason.NodeCordoned
	case b.connected(node) && b.announcer[node].report.Unwell:
		return reason.NodeUnwell
	}
	return ""
}

// healthPatience is how long after a node has said that it is unwell the plan moves its
// addresses: by then others have asked their kube-proxies too, which they do every 5 s, and wait
// a second for the answer. Where a fault befell all of them at once the addresses stay. The nodes
// themselves do not wait: they know of each other at once.
const healthPatience = 7 * time.Second

// Ail takes over which nodes have been unwell for long enough; call it before Plan. again is when
// to call it though nothing has changed; 0 is never.
func (b *Balancer) Ail(now time.Time) (again time.Duration) {
	for name, known := range b.announcer {
		if !known.connected || !known.report.Unwell {
			known.unwellAt, known.unwell = time.Time{}, false
			continue
		}
		if known.unwellAt.IsZero() {
			known.unwellAt = now
		}
		left := known.unwellAt.Add(healthPatience).Sub(now)
		switch {
		case known.unwell:
		case left <= 0:
			known.unwell = true
			b.nodeChanged(name)
		case again == 0 || left < again:
			again = left
		}
	}
	return again
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
	return fmt.Sprintf(" (%s, but no other node may take it)", reason.OfNodes(why, list.Candidates[:1], ""))
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
