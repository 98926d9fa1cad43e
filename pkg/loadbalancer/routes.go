package loadbalancer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/plan"
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

// routerAddresses returns those of the routers.
func (b BGP) routerAddresses() []netip.Addr {
	var out []netip.Addr
	for _, p := range b.Peers {
		out = append(out, p.Address)
	}
	return out
}

// Peer is a router, and the nodes that keep a session to it.
type Peer struct {
	plan.BGPPeer
	// NodeSelector restricts the nodes; nil allows all.
	NodeSelector ipam.Selector
	// Template makes the peer of each node from BGPPeer; nil takes that as it is.
	Template Template
}

// Template makes what is different of a peer from node to node.
type Template interface {
	// Peer returns p as a node with these labels has it. It is false, without an error, where
	// the labels report that the node has no such peer. The error says what is wrong with them.
	Peer(p plan.BGPPeer, labels map[string]string) (plan.BGPPeer, bool, error)
}

// peersOf are the peers of one node.
type peersOf struct {
	// peers are sorted by name.
	peers []plan.BGPPeer
	// invalid are those that its labels should make and do not, with the error, by name.
	invalid map[string]error
}

// InvalidPeer is a peer that a node has not, because of what its labels say.
type InvalidPeer struct {
	Node, Peer string
	// Message is one sentence for a person.
	Message string
}

// wantedPeers returns the peers that a node should have.
func (b *Balancer) wantedPeers(n Node) peersOf {
	out := peersOf{invalid: map[string]error{}}
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
			out.invalid[p.Name] = err
		case ok:
			out.peers = append(out.peers, peer)
		}
	}
	slices.SortFunc(out.peers, func(x, y plan.BGPPeer) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// InvalidPeers returns the peers that nodes have not because of what their labels say, sorted by
// node and peer.
func (b *Balancer) InvalidPeers() []InvalidPeer {
	var out []InvalidPeer
	for node, known := range b.peers {
		for peer, err := range known.invalid {
			out = append(out, InvalidPeer{node, peer, err.Error()})
		}
	}
	slices.SortFunc(out, func(x, y InvalidPeer) int { return cmp.Or(cmp.Compare(x.Node, y.Node), cmp.Compare(x.Peer, y.Peer)) })
	return out
}

// Advertisement is how the addresses of a pool are announced.
type Advertisement struct {
	plan.Advertisement
	// NodeSelector restricts the nodes; nil allows all.
	NodeSelector ipam.Selector
	// LengthV4 and LengthV6 are the lengths of the prefixes that are announced.
	LengthV4, LengthV6 int
}

// prefixFor returns what a announces for address.
func (a Advertisement) prefixFor(address netip.Addr) netip.Prefix {
	bits := a.LengthV6
	if address.Is4() {
		bits = a.LengthV4
	}
	prefix, _ := address.Prefix(bits) // the configuration has bounds
	return prefix
}

// reachesPeer reports whether routes of a go to peer.
func (a Advertisement) reachesPeer(p plan.BGPPeer, f ipam.Family) bool {
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
	// acknowledgedFrom are, by address, the version of the plans that first had a route for it.
	acknowledgedFrom map[netip.Addr]plan.Version
	// sessions are the peers and advertisements of each node.
	sessions map[string]plan.BGP
	// renew reports whether to look at sessions again.
	renew bool
}

func newRouting() routing {
	return routing{
		reaches: map[netip.Addr][]reach{}, routes: map[string]map[netip.Prefix]map[string]int{},
		acknowledgedFrom: map[netip.Addr]plan.Version{}, sessions: map[string]plan.BGP{}, renew: true,
	}
}

// routeChanges are the routes that changed, by node; one that changed twice may be there twice.
type routeChanges map[string][]netip.Prefix

// routeAddress decides which nodes announce address by BGP, and notes the nodes that get
// other routes by it. It reports whether the nodes have changed.
func (b *Balancer) routeAddress(address netip.Addr, next plan.Version, changed routeChanges) bool {
	r := &b.plan.routing
	var now []reach
	if len(b.addresses.Holders(address)) > 0 {
		now = b.reachesOf(address)
	}
	before := r.reaches[address]
	if slices.EqualFunc(before, now, reach.equalReach) {
		return false
	}
	for _, x := range now {
		r.countRoute(x, 1, changed)
	}
	for _, x := range before {
		r.countRoute(x, -1, changed)
	}
	r.noteHealthPorts(before, now, changed)
	switch {
	case !anyNode(now):
		delete(r.acknowledgedFrom, address)
	case !anyNode(before):
		r.acknowledgedFrom[address] = next
	}
	if r.reaches[address] = now; now == nil {
		delete(r.reaches, address)
	}
	return true
}

func (x reach) equalReach(y reach) bool {
	return x.advertisement == y.advertisement && x.prefix == y.prefix && x.healthPort == y.healthPort && slices.Equal(x.nodes, y.nodes)
}

func anyNode(reaches []reach) bool {
	return slices.ContainsFunc(reaches, func(x reach) bool { return len(x.nodes) > 0 })
}

// countRoute adds an address to the routes of x, or takes one off; a route is there while an
// address needs it.
func (r *routing) countRoute(x reach, by int, changed routeChanges) {
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

// noteHealthPorts notes the nodes with routes that have another health port now: all of an address,
// and so of a host route, have the same.
func (r *routing) noteHealthPorts(before, now []reach, changed routeChanges) {
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
		x := reach{advertisement: a.Name, prefix: a.prefixFor(address)}
		var draining []string
		healthy := false
		for name, n := range b.nodes {
			switch {
			case b.mayAnnounce(n, address, a) != "":
			case b.drainReason(name) != "":
				draining = append(draining, name)
			default:
				x.nodes = append(x.nodes, name)
				healthy = healthy || b.unhealthyReason(name) == ""
			}
		}
		if !healthy {
			x.nodes = append(x.nodes, draining...) // No other node is healthier.
		}
		slices.Sort(x.nodes)
		if x.prefix.IsSingleIP() {
			x.healthPort = b.healthPort(address)
		}
		out = append(out, x)
	}
	return out
}

// mayAnnounce says why node does not announce address by a, or "" where it does. Whether
// the node is connected does not matter: a node that cannot be told goes on unchanged.
func (b *Balancer) mayAnnounce(n Node, address netip.Addr, a Advertisement) reason.Reason {
	if why := b.mayServe(n, a.NodeSelector); why != "" {
		return why
	}
	f, known := ipam.FamilyOf(address), b.peers[n.Name]
	switch {
	case slices.ContainsFunc(known.peers, func(p plan.BGPPeer) bool { return a.reachesPeer(p, f) }):
	case slices.ContainsFunc(a.Peers, func(name string) bool { return known.invalid[name] != nil }):
		return reason.NodeLabelInvalid
	default:
		return reason.NodeNoPeer
	}
	switch {
	case b.isLocal(n.Name, address):
		return reason.AddressIsLocal
	case !b.isReachable(n.Name, address):
		return reason.NodeNoEndpoint
	}
	return ""
}

// renewSessions makes the peers and advertisements of each node anew where nodes or the
// configuration changed, and notes the nodes that get another plan by it.
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
		if slices.Equal(before.Peers, now.Peers) && slices.EqualFunc(before.Advertisements, now.Advertisements, plan.Advertisement.Equal) {
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
func (b *Balancer) sessionsOf(n Node) plan.BGP {
	var out plan.BGP
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
	slices.SortFunc(out.Advertisements, func(x, y plan.Advertisement) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// routesOf makes the routes of a node from its last ones and the prefixes that changed since.
func (b *Balancer) routesOf(name string, last []plan.Route, changed []netip.Prefix) []plan.Route {
	if len(changed) == 0 {
		return last
	}
	slices.SortFunc(changed, plan.ComparePrefixes)
	routes := b.plan.routing.routes[name]
	out := make([]plan.Route, 0, len(routes))
	for _, prefix := range slices.Compact(changed) {
		i, found := slices.BinarySearchFunc(last, prefix, func(r plan.Route, p netip.Prefix) int {
			return plan.ComparePrefixes(r.Prefix, p)
		})
		out = append(out, last[:i]...)
		if found {
			i++
		}
		last = last[i:]
		if counts := routes[prefix]; len(counts) > 0 {
			out = append(out, plan.Route{Prefix: prefix, Advertisements: b.orderAdvertisements(counts), HealthPort: b.routePort(prefix)})
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

// bgpOf returns what a node says to routers; changed are the prefixes that it said other
// things of in its last plan.
func (b *Balancer) bgpOf(name string, changed []netip.Prefix) plan.BGP {
	last, ok := b.plan.sets[name]
	if !ok {
		changed = slices.Collect(maps.Keys(b.plan.routing.routes[name]))
	}
	out := b.plan.routing.sessions[name]
	out.Routes = b.routesOf(name, last.BGP.Routes, changed)
	return out
}

// orderAdvertisements returns the names of advertisements, which are of one pool, in its order.
func (b *Balancer) orderAdvertisements(counts map[string]int) []string {
	out := make([]string, 0, len(counts))
	for name := range counts {
		out = append(out, name)
	}
	slices.SortFunc(out, func(x, y string) int { return cmp.Or(cmp.Compare(b.order[x], b.order[y]), strings.Compare(x, y)) })
	return out
}
