package loadbalancer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// routed says whether the routes of address are heard, with the nodes that acknowledged
// having told them to a router. It is meant for addresses of a pool with advertisements.
func (b *Balancer) routed(address netip.Addr) Verdict {
	r := &b.plan.routing
	reaches, decided := r.reaches[address]
	switch {
	case anyNode(reaches):
	case !decided:
		return Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("address %s waits to be announced by BGP", address)}
	default:
		return b.unrouted(address)
	}
	told, waits, unserved := 0, "", ""
	var failing []string
	for _, x := range reaches {
		for _, name := range x.nodes {
			known, ok := b.announcer[name]
			if !ok || !known.connected {
				continue
			}
			if known.report.BGP.Plan.Compare(r.given[address]) < 0 {
				waits = cmp.Or(waits, name)
				continue
			}
			if _, withheld := slices.BinarySearchFunc(known.report.BGP.Withheld, x.prefix, announcement.ComparePrefixes); withheld {
				unserved = cmp.Or(unserved, name)
				continue
			}
			up, why := b.heardBy(name, x.advertisement, ipam.FamilyOf(address))
			if up {
				told++
			} else if why != "" {
				failing = append(failing, fmt.Sprintf("node %s to %s", name, why))
			}
		}
	}
	switch {
	case told > 0:
		return Verdict{OK: true, Reason: reason.Announced, Message: "answered: " + address.String()}
	case waits != "":
		return Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("node %s was told to announce %s by BGP and has not acknowledged it yet", waits, address)}
	case unserved != "":
		return Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("node %s does not announce %s by BGP yet, as its kube-proxy does not serve it yet", unserved, address)}
	case len(failing) > 0:
		slices.Sort(failing)
		return Verdict{Reason: reason.NoSession, Message: fmt.Sprintf("no router hears of %s, as no BGP session that would tell it is established, for instance of %s", address, failing[0])}
	}
	return Verdict{Reason: reason.NoEligibleNode, Message: fmt.Sprintf("no node that announces %s by BGP is connected: %s %d", address, reason.NodeNotConnected, len(reaches[0].nodes))}
}

// heardBy says whether a session of node to a peer of the advertisement is established, or
// else of one of them why not.
func (b *Balancer) heardBy(node, advertisement string, f ipam.Family) (up bool, why string) {
	sessions := b.plan.routing.sessions[node]
	i, ok := slices.BinarySearchFunc(sessions.Advertisements, advertisement, func(a announcement.Advertisement, name string) int {
		return cmp.Compare(a.Name, name)
	})
	if !ok {
		return false, ""
	}
	a := Advertisement{Advertisement: sessions.Advertisements[i]}
	for _, s := range b.announcer[node].report.BGP.Sessions {
		if !slices.ContainsFunc(sessions.Peers, func(p announcement.BGPPeer) bool { return p.Name == s.Peer && a.announces(p, f) }) {
			continue
		}
		switch {
		case s.State != announcement.BGPEstablished:
			why = cmp.Or(why, fmt.Sprintf("%s: %s", s.Peer, cmp.Or(string(s.Reason), "connecting")))
		case f == ipam.IPv4 && s.IPv4 || f == ipam.IPv6 && s.IPv6:
			return true, ""
		default:
			why = cmp.Or(why, fmt.Sprintf("%s: %s", s.Peer, reason.PeerFamilyMissing))
		}
	}
	return false, why
}

// unrouted says why no node announces address by BGP.
func (b *Balancer) unrouted(address netip.Addr) Verdict {
	switch {
	case !b.anywhere(address, ipam.FamilyOf(address)):
		return b.unreachable(address)
	case len(b.nodes) == 0:
		return Verdict{Reason: reason.NoEligibleNode, Message: "the cluster has no nodes"}
	}
	counts := map[reason.Reason]int{}
	for _, n := range b.nodes {
		counts[b.announcesNot(n, address)]++
	}
	if counts[reason.NodeNoEndpoint] > 0 {
		return Verdict{Reason: reason.NoLocalEndpoints, Message: fmt.Sprintf("no node that may announce %s by BGP has a usable endpoint (externalTrafficPolicy Local): %s", address, tally(counts))}
	}
	return Verdict{Reason: reason.NoEligibleNode, Message: fmt.Sprintf("no node may announce %s by BGP: %s", address, tally(counts))}
}

// announcesNot says why a node announces address by no advertisement: by the one that comes
// nearest to it.
func (b *Balancer) announcesNot(n Node, address netip.Addr) reason.Reason {
	nearest := reason.NodeNotSelected
	for _, a := range b.bgp.Pools[b.addresses.PoolOf(address)] {
		if why := b.announces(n, address, a); why != reason.NodeNotSelected {
			nearest = why
		}
	}
	return nearest
}

// touchRouted has all addresses decided again that are announced by BGP, or could be.
func (b *Balancer) touchRouted() {
	for _, s := range b.services {
		for _, a := range s.result.Assignments {
			if len(b.bgp.Pools[a.Pool]) > 0 {
				b.plan.touch(a.Address)
			}
		}
	}
}

// changedRoutes returns the addresses whose verdict another report of node may change: all
// that it announces when a session changed, else those that the report acknowledges.
func (b *Balancer) changedRoutes(node string, known *announcer, report announcement.Report) []netip.Addr {
	before, after := known.report.BGP, report.BGP
	changed := !known.connected || !slices.Equal(before.Sessions, after.Sessions) || !slices.Equal(before.Withheld, after.Withheld)
	if !changed && before.Plan == after.Plan {
		return nil
	}
	var out []netip.Addr
	for address, given := range b.plan.routing.given {
		if (changed || before.Plan.Compare(given) < 0 && after.Plan.Compare(given) >= 0) && b.routesTo(node, address) {
			out = append(out, address)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// routesTo reports whether node is planned to announce address by BGP.
func (b *Balancer) routesTo(node string, address netip.Addr) bool {
	return slices.ContainsFunc(b.plan.routing.reaches[address], func(x reach) bool {
		_, found := slices.BinarySearch(x.nodes, node)
		return found
	})
}

// routers returns the connected nodes that may announce address by BGP. One that is not
// connected is not waited for: routes to it lead to a node that serves every address.
func (b *Balancer) routers(address netip.Addr) []string {
	var out []string
	for _, x := range b.plan.routing.reaches[address] {
		for _, name := range x.nodes {
			if b.connected(name) && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// unroutes takes over that node has withdrawn routes to addresses that nobody holds any more,
// or, with gone, that it is not waited for.
func (b *Balancer) unroutes(node string, gone bool) {
	for address, from := range b.unrouting {
		if !slices.Contains(from, node) || !gone && (b.routesTo(node, address) || b.announcer[node].report.BGP.Plan.Compare(b.plan.sets[node].Stamp) < 0) {
			continue
		}
		b.unrouting[address] = slices.DeleteFunc(from, func(name string) bool { return name == node })
		if len(b.withdrawing[address])+len(b.unrouting[address]) == 0 {
			b.endWithdrawal(address)
		}
	}
}
