package loadbalancer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// BGP is what addresses are announced to, and how, by BGP.
type BGP struct {
	Peers []Peer
	// Pools holds the advertisements by pool name. Those of one pool are in order of
	// precedence.
	Pools map[string][]Advertisement
}

// addresses returns those of the routers.
func (b BGP) addresses() []netip.Addr {
	var out []netip.Addr
	for _, p := range b.Peers {
		out = append(out, p.Address)
	}
	return out
}

// Peer is a router, and the nodes that keep a session to it.
type Peer struct {
	announcement.BGPPeer
	// NodeSelector restricts the nodes; nil allows all.
	NodeSelector ipam.Selector
	// Template makes the peer of each node from BGPPeer; nil takes that as it is.
	Template Template
}

// Template makes what is different of a peer from node to node.
type Template interface {
	// Peer returns p as a node with these labels has it. It is false, without an error, where
	// the labels say that the node has no such peer. The error says what is wrong with them.
	Peer(p announcement.BGPPeer, labels map[string]string) (announcement.BGPPeer, bool, error)
}

// peersOf are the peers of one node.
type peersOf struct {
	// peers are sorted by name.
	peers []announcement.BGPPeer
	// misfits are those that its labels should make and do not, with the error, by name.
	misfits map[string]error
}

// Misfit is a peer that a node has not, because of what its labels say.
type Misfit struct {
	Node, Peer string
	// Message is one sentence for a person.
	Message string
}

// wantedPeers returns who the peers of a node should be.
func (b *Balancer) wantedPeers(n Node) peersOf {
	out := peersOf{misfits: map[string]error{}}
	for _, p := range b.bgp.Peers {
		if p.NodeSelector != nil && !p.NodeSelector.Matches(n.Labels) {
			continue
		}
		peer, ok, err := p.BGPPeer, true, error(nil)
		if p.Template != nil {
			peer, ok, err = p.Template.Peer(p.BGPPeer, n.Labels)
		}
		switch {
		case err != nil:
			out.misfits[p.Name] = err
		case ok:
			out.peers = append(out.peers, peer)
		}
	}
	slices.SortFunc(out.peers, func(x, y announcement.BGPPeer) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// Misfits returns the peers that nodes have not because of what their labels say, sorted by
// node and peer.
func (b *Balancer) Misfits() []Misfit {
	var out []Misfit
	for node, known := range b.peers {
		for peer, err := range known.misfits {
			out = append(out, Misfit{node, peer, err.Error()})
		}
	}
	slices.SortFunc(out, func(x, y Misfit) int { return cmp.Or(cmp.Compare(x.Node, y.Node), cmp.Compare(x.Peer, y.Peer)) })
	return out
}

// Advertisement is how the addresses of a pool are announced.
type Advertisement struct {
	announcement.Advertisement
	// NodeSelector restricts the nodes; nil allows all.
	NodeSelector ipam.Selector
	// LengthV4 and LengthV6 are the lengths of the prefixes that are announced.
	LengthV4, LengthV6 int
}

// prefix returns what a announces for address.
func (a Advertisement) prefix(address netip.Addr) netip.Prefix {
	bits := a.LengthV6
	if address.Is4() {
		bits = a.LengthV4
	}
	prefix, _ := address.Prefix(bits) // the configuration has bounds
	return prefix
}

// announces reports whether routes of a go to peer.
func (a Advertisement) announces(p announcement.BGPPeer, f ipam.Family) bool {
	carries := p.IPv4
	if f == ipam.IPv6 {
		carries = p.IPv6
	}
	return carries && slices.Contains(a.Peers, p.Name)
}

// reach is what one advertisement comes to for an address: the prefix, and the nodes that
// announce it, sorted.
type reach struct {
	advertisement string
	prefix        netip.Prefix
	nodes         []string
	// healthPort is where these ask whether they serve the address; an aggregate has none.
	healthPort uint16
}

// routing is what nodes say to routers, as last decided.
type routing struct {
	// reaches are, by held address of a pool with advertisements, what these come to, once that
	// was decided.
	reaches map[netip.Addr][]reach
	// routes count, by node, prefix and advertisement, the addresses that need the route.
	routes map[string]map[netip.Prefix]map[string]int
	// given are, by address, the stamp of the plans that first had a route for it.
	given map[netip.Addr]announcement.Stamp
	// sessions are the peers and advertisements of each node.
	sessions map[string]announcement.BGP
	// renew says that sessions are to be looked at again.
	renew bool
}

func newRouting() routing {
	return routing{
		reaches: map[netip.Addr][]reach{}, routes: map[string]map[netip.Prefix]map[string]int{},
		given: map[netip.Addr]announcement.Stamp{}, sessions: map[string]announcement.BGP{}, renew: true,
	}
}

// routeChanges are the routes that changed, by node; one that changed twice may be there twice.
type routeChanges map[string][]netip.Prefix

// route decides who announces address by BGP and notes whose routes that changes. It
// reports whether the nodes have changed.
func (b *Balancer) route(address netip.Addr, next announcement.Stamp, changed routeChanges) bool {
	r := &b.plan.routing
	var now []reach
	if len(b.addresses.Holders(address)) > 0 {
		now = b.reachesOf(address)
	}
	before := r.reaches[address]
	if slices.EqualFunc(before, now, reach.equal) {
		return false
	}
	for _, x := range now {
		r.count(x, 1, changed)
	}
	for _, x := range before {
		r.count(x, -1, changed)
	}
	r.reask(before, now, changed)
	switch {
	case !anyNode(now):
		delete(r.given, address)
	case !anyNode(before):
		r.given[address] = next
	}
	if r.reaches[address] = now; now == nil {
		delete(r.reaches, address)
	}
	return true
}

func (x reach) equal(y reach) bool {
	return x.advertisement == y.advertisement && x.prefix == y.prefix && x.healthPort == y.healthPort && slices.Equal(x.nodes, y.nodes)
}

func anyNode(reaches []reach) bool {
	return slices.ContainsFunc(reaches, func(x reach) bool { return len(x.nodes) > 0 })
}

// count adds an address to the routes of x, or takes one off; a route is there while an
// address needs it.
func (r *routing) count(x reach, by int, changed routeChanges) {
	for _, node := range x.nodes {
		routes := r.routes[node]
		if routes == nil {
			routes = map[netip.Prefix]map[string]int{}
			r.routes[node] = routes
		}
		counts := routes[x.prefix]
		if counts == nil {
			counts = map[string]int{}
			routes[x.prefix] = counts
		}
		before := counts[x.advertisement]
		if counts[x.advertisement] += by; counts[x.advertisement] == 0 {
			delete(counts, x.advertisement)
		}
		if (before == 0) != (before+by == 0) {
			changed[node] = append(changed[node], x.prefix)
		}
		if len(counts) == 0 {
			delete(routes, x.prefix)
		}
	}
}

// reask notes whose routes have another health port now: all of an address, and so of a host
// route, have the same.
func (r *routing) reask(before, now []reach, changed routeChanges) {
	for _, x := range now {
		if slices.ContainsFunc(before, func(y reach) bool { return y.prefix == x.prefix && y.healthPort != x.healthPort }) {
			for _, node := range x.nodes {
				changed[node] = append(changed[node], x.prefix)
			}
		}
	}
}

// reachesOf says which nodes announce address, by each advertisement of its pool.
func (b *Balancer) reachesOf(address netip.Addr) []reach {
	var out []reach
	for _, a := range b.bgp.Pools[b.addresses.PoolOf(address)] {
		x := reach{advertisement: a.Name, prefix: a.prefix(address)}
		var reluctant []string
		healthy := false
		for name, n := range b.nodes {
			switch {
			case b.announces(n, address, a) != "":
			case b.reluctance(name) != "":
				reluctant = append(reluctant, name)
			default:
				x.nodes = append(x.nodes, name)
				healthy = healthy || b.unhealthy(name) == ""
			}
		}
		if !healthy {
			x.nodes = append(x.nodes, reluctant...) // No other node is healthier.
		}
		slices.Sort(x.nodes)
		if x.prefix.IsSingleIP() {
			x.healthPort = b.healthPort(address)
		}
		out = append(out, x)
	}
	return out
}

// announces says why node does not announce address by a, or "" where it does. Who is
// connected does not matter: a node that cannot be told goes on as it is.
func (b *Balancer) announces(n Node, address netip.Addr, a Advertisement) reason.Reason {
	if why := b.mayServe(n, a.NodeSelector); why != "" {
		return why
	}
	f, known := ipam.FamilyOf(address), b.peers[n.Name]
	switch {
	case slices.ContainsFunc(known.peers, func(p announcement.BGPPeer) bool { return a.announces(p, f) }):
	case slices.ContainsFunc(a.Peers, func(name string) bool { return known.misfits[name] != nil }):
		return reason.NodeLabelInvalid
	default:
		return reason.NodeNoPeer
	}
	switch {
	case b.isLocal(n.Name, address):
		return reason.AddressIsLocal
	case !b.reaches(n.Name, address):
		return reason.NodeNoEndpoint
	}
	return ""
}

// renewSessions makes the peers and advertisements of each node anew where nodes or the
// configuration changed, and notes whose plan that changes.
func (b *Balancer) renewSessions(changed routeChanges) {
	r := &b.plan.routing
	if !r.renew {
		return
	}
	r.renew = false
	for name := range r.sessions {
		if _, ok := b.nodes[name]; !ok {
			delete(r.sessions, name)
		}
	}
	for name, n := range b.nodes {
		now := b.sessionsOf(n)
		before := r.sessions[name]
		if slices.Equal(before.Peers, now.Peers) && slices.EqualFunc(before.Advertisements, now.Advertisements, announcement.Advertisement.Equal) {
			continue
		}
		r.sessions[name] = now
		if changed[name] == nil {
			changed[name] = []netip.Prefix{}
		}
	}
}

// sessionsOf returns the peers of a node, and the advertisements that they hear. A node that
// serves no address ends its sessions only when it is deleted: routes are withdrawn one by one.
func (b *Balancer) sessionsOf(n Node) announcement.BGP {
	var out announcement.BGP
	if n.Deleting {
		return out
	}
	out.Peers = b.peers[n.Name].peers
	heard := map[string]bool{}
	for _, p := range out.Peers {
		heard[p.Name] = true
	}
	for _, all := range b.bgp.Pools {
		for _, a := range all {
			here := a.Advertisement
			here.Peers = slices.DeleteFunc(slices.Clone(a.Peers), func(name string) bool { return !heard[name] })
			if len(here.Peers) > 0 {
				out.Advertisements = append(out.Advertisements, here)
			}
		}
	}
	slices.SortFunc(out.Advertisements, func(x, y announcement.Advertisement) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// routesOf makes the routes of a node from its last ones and the prefixes that changed since.
func (b *Balancer) routesOf(name string, last []announcement.Route, changed []netip.Prefix) []announcement.Route {
	if len(changed) == 0 {
		return last
	}
	slices.SortFunc(changed, announcement.ComparePrefixes)
	routes := b.plan.routing.routes[name]
	out := make([]announcement.Route, 0, len(routes))
	for _, prefix := range slices.Compact(changed) {
		i, found := slices.BinarySearchFunc(last, prefix, func(r announcement.Route, p netip.Prefix) int {
			return announcement.ComparePrefixes(r.Prefix, p)
		})
		out = append(out, last[:i]...)
		if found {
			i++
		}
		last = last[i:]
		if counts := routes[prefix]; len(counts) > 0 {
			out = append(out, announcement.Route{Prefix: prefix, Advertisements: b.precedence(counts), HealthPort: b.routePort(prefix)})
		}
	}
	return append(out, last...)
}

// routePort returns the health port of a prefix that is announced.
func (b *Balancer) routePort(prefix netip.Prefix) uint16 {
	for _, x := range b.plan.routing.reaches[prefix.Addr()] {
		if x.prefix == prefix {
			return x.healthPort
		}
	}
	return 0
}

// said returns what a node says to routers; changed are the prefixes that it said other
// things of in its last plan.
func (b *Balancer) said(name string, changed []netip.Prefix) announcement.BGP {
	last, ok := b.plan.sets[name]
	if !ok {
		changed = slices.Collect(maps.Keys(b.plan.routing.routes[name]))
	}
	out := b.plan.routing.sessions[name]
	out.Routes = b.routesOf(name, last.BGP.Routes, changed)
	return out
}

// precedence returns the names of advertisements, which are of one pool, in its order.
func (b *Balancer) precedence(counts map[string]int) []string {
	out := make([]string, 0, len(counts))
	for name := range counts {
		out = append(out, name)
	}
	slices.SortFunc(out, func(x, y string) int { return cmp.Or(cmp.Compare(b.order[x], b.order[y]), strings.Compare(x, y)) })
	return out
}
