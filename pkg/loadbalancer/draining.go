package loadbalancer

import (
	"fmt"
	"net/netip"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// drainReason says why other nodes should answer instead of node, which may answer for
// addresses, where that is possible, or "". Unlike what makes a node not eligible it never
// leaves an address without a node.
func (b *Balancer) drainReason(node string) reason.Reason {
	why := b.unhealthyReason(node)
	if why == reason.KubeProxyUnhealthy && !b.announcer[node].unhealthy {
		return ""
	}
	return why
}

// unhealthyReason says why node should not get addresses of a draining one, or "": what it said
// last counts at once, so that health moves nothing to a node that is no healthier.
func (b *Balancer) unhealthyReason(node string) reason.Reason {
	switch {
	case b.drainOnCordon && b.nodes[node].Cordoned:
		return reason.NodeCordoned
	case b.isConnected(node) && b.announcer[node].report.Unhealthy:
		return reason.KubeProxyUnhealthy
	}
	return ""
}

// unhealthyDelay is how long after a node has said that it is unhealthy the plan moves its
// addresses: by then others have asked their kube-proxies too, which they do every 5 s, and wait
// a second for the answer. Where a fault befell all of them at once the addresses stay. The nodes
// themselves do not wait: they know of each other at once.
const unhealthyDelay = 7 * time.Second

// UpdateHealth takes over which nodes have been unhealthy for long enough; call it before Plan. again is when
// to call it though nothing has changed; 0 is never.
func (b *Balancer) UpdateHealth(now time.Time) (again time.Duration) {
	for name, known := range b.announcer {
		if !known.connected || !known.report.Unhealthy {
			known.unhealthyAt, known.unhealthy = time.Time{}, false
			continue
		}
		if known.unhealthyAt.IsZero() {
			known.unhealthyAt = now
		}
		left := known.unhealthyAt.Add(unhealthyDelay).Sub(now)
		switch {
		case known.unhealthy:
		case left <= 0:
			known.unhealthy = true
			b.markNodeDirty(name)
		case again == 0 || left < again:
			again = left
		}
	}
	return again
}

// markDraining notes that the owner of address is draining and keeps it, unmarkDraining that it does not.
func (b *Balancer) markDraining(address netip.Addr) {
	b.plan.draining[address] = true
	b.plan.decided[address] = true // its message says so
}

func (b *Balancer) unmarkDraining(address netip.Addr) {
	if b.plan.draining[address] {
		delete(b.plan.draining, address)
		b.plan.decided[address] = true
	}
}

// drainingReason says why the owner of list should give its address up, where it keeps it
// because no other node may take it.
func (b *Balancer) drainingReason(list plan.Assignment) string {
	why := b.drainReason(list.Candidates[0])
	if !b.plan.draining[list.Address] || why == "" {
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
		if s.Sharing.Local && s.HealthPort != 0 && !b.endpoints[s.Key()].ofFamily(ipam.FamilyOf(address)).Ending {
			return s.HealthPort
		}
	}
	return 0
}
