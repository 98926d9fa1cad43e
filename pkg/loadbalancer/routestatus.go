package loadbalancer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// routeVerdict says whether the routes of address are heard, with the nodes that acknowledged
// having told them to a router. It is meant for addresses of a pool with advertisements.
func (b *Balancer) routeVerdict(address netip.Addr) Verdict {
	r := &b.plan.routing
	reaches, decided := r.reaches[address]
	switch {
	case anyNode(reaches):
	case !decided:
		return b.unplanned(address)
	default:
		return b.unroutedVerdict(address)
	}
	var told []string
	waits, unserved := "", ""
	var trouble sessionTrouble
	for _, x := range reaches {
		for _, name := range x.nodes {
			known, ok := b.announcer[name]
			if !ok || !known.connected {
				continue
			}
			if known.report.BGP.Plan.Compare(r.acknowledgedFrom[address]) < 0 {
				waits = cmp.Or(waits, name)
				continue
			}
			if _, withheld := slices.BinarySearchFunc(known.report.BGP.Withheld, x.prefix, plan.ComparePrefixes); withheld {
				unserved = cmp.Or(unserved, name)
				continue
			}
			if b.heardBy(name, x.advertisement, ipam.FamilyOf(address), &trouble) {
				told = append(told, name)
			}
		}
	}
	switch {
	case len(told) > 0:
		slices.Sort(told)
		return answeredBy("announced by BGP from "+reason.Nodes(slices.Compact(told)), address)
	case waits != "":
		return Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("node %s was told to announce %s by BGP and has not acknowledged it yet", waits, address)}
	case unserved != "":
		return Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("node %s does not announce %s by BGP yet, as its kube-proxy does not serve it yet", unserved, address)}
	}
	if session, begins := trouble.begins(); begins {
		return Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("the BGP session of %s, which will carry %s, is being set up", session, address)}
	}
	if len(trouble.sessions) > 0 {
		return Verdict{Reason: reason.NoBGPSession, Message: fmt.Sprintf("no router hears of %s: %s", address, &trouble)}
	}
	return Verdict{Reason: reason.NoEligibleNode, Message: fmt.Sprintf("no node that announces %s by BGP is connected: %s",
		address, reason.OfNodes(reason.NodeNotConnected, reaches[0].nodes, ""))}
}

// unplanned reports whether no plan has a route to address yet.
func (b *Balancer) unplanned(address netip.Addr) Verdict {
	return Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("address %s waits to be announced by BGP", address)}
}

// heardBy reports whether a session of node to a peer of the advertisement is established and
// carries f. The others are added to trouble.
func (b *Balancer) heardBy(node, advertisement string, f ipam.Family, trouble *sessionTrouble) (heard bool) {
	sessions := b.plan.routing.sessions[node]
	i, ok := slices.BinarySearchFunc(sessions.Advertisements, advertisement, func(a plan.Advertisement, name string) int {
		return cmp.Compare(a.Name, name)
	})
	if !ok {
		return false
	}
	a := Advertisement{Advertisement: sessions.Advertisements[i]}
	known := b.announcer[node]
	for _, s := range known.report.BGP.Sessions {
		if !slices.ContainsFunc(sessions.Peers, func(p plan.BGPPeer) bool { return p.Name == s.Peer && a.reachesPeer(p, f) }) {
			continue
		}
		if s.State == plan.BGPEstablished && (f == ipam.IPv4 && s.IPv4 || f == ipam.IPv6 && s.IPv6) {
			heard = true
			continue
		}
		trouble.add(node, s, f, known.established[s.Peer])
	}
	return heard
}

// unroutedVerdict says why no node announces address by BGP. Where a node may by now, the plan is
// older than what allows it.
func (b *Balancer) unroutedVerdict(address netip.Addr) Verdict {
	switch {
	case !b.hasEndpoint(address, ipam.FamilyOf(address)):
		return b.noEndpoints(address)
	case len(b.nodes) == 0:
		return Verdict{Reason: reason.NoEligibleNode, Message: "the cluster has no nodes"}
	}
	refused := refusals{}
	for _, n := range b.nodes {
		why, detail := b.announcesNot(n, address)
		if why == "" {
			return b.unplanned(address)
		}
		refused.add(n.Name, why, detail)
	}
	if refused.have(reason.NodeNoEndpoint) {
		return Verdict{Reason: reason.NoLocalEndpoints, Message: fmt.Sprintf("no node that may announce %s by BGP has a usable endpoint (externalTrafficPolicy Local): %s", address, refused)}
	}
	return Verdict{Reason: reason.NoEligibleNode, Message: fmt.Sprintf("no node may announce %s by BGP: %s", address, refused)}
}

// announcesNot says why a node announces address by no advertisement, by the one that comes
// nearest to it, and what that depends on. It is "" where the node may announce it.
func (b *Balancer) announcesNot(n Node, address netip.Addr) (why reason.Reason, detail string) {
	var selectors []string
	for _, a := range b.bgp.Pools[b.addresses.PoolOf(address)] {
		switch refused := b.mayAnnounce(n, address, a); refused {
		case "":
			return "", ""
		case reason.NodeNotSelected:
			selectors = append(selectors, fmt.Sprint(a.NodeSelector))
		case reason.NodeNoPeer, reason.NodeLabelInvalid:
			why, detail = refused, reason.Names(a.Peers)
		default:
			why, detail = refused, ""
		}
	}
	if why == "" {
		return reason.NodeNotSelected, strings.Join(selectors, " or ")
	}
	return why, detail
}

// touchRouted marks all addresses dirty that are announced by BGP, or could be.
func (b *Balancer) touchRouted() {
	for _, s := range b.services {
		for _, a := range s.result.Assignments {
			if len(b.bgp.Pools[a.Pool]) > 0 {
				b.plan.markDirty(a.Address)
			}
		}
	}
}

// changedRoutes returns the addresses for which another report of node may change the
// verdict: all that it announces when a session changed, else those that the report
// acknowledges.
func (b *Balancer) changedRoutes(node string, known *announcer, report plan.Report) []netip.Addr {
	before, after := known.report.BGP, report.BGP
	changed := !known.connected || !slices.Equal(before.Sessions, after.Sessions) || !slices.Equal(before.Withheld, after.Withheld)
	if !changed && before.Plan == after.Plan {
		return nil
	}
	var out []netip.Addr
	for address, given := range b.plan.routing.acknowledgedFrom {
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

// routingNodes returns the connected nodes that may announce address by BGP. One that is not
// connected is not waited for: routes to it lead to a node that serves every address.
func (b *Balancer) routingNodes(address netip.Addr) []string {
	var out []string
	for _, x := range b.plan.routing.reaches[address] {
		for _, name := range x.nodes {
			if b.isConnected(name) && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// endRoutes takes over that node has withdrawn routes to addresses that lost their last
// holder, or, with gone, that it is not waited for.
func (b *Balancer) endRoutes(node string, gone bool) {
	for address, from := range b.withdrawingRoutes {
		if !slices.Contains(from, node) || !gone && (b.routesTo(node, address) || b.announcer[node].report.BGP.Plan.Compare(b.plan.sets[node].Version) < 0) {
			continue
		}
		b.withdrawingRoutes[address] = slices.DeleteFunc(from, func(name string) bool { return name == node })
		if len(b.withdrawing[address])+len(b.withdrawingRoutes[address]) == 0 {
			b.endWithdrawal(address)
		}
	}
}
