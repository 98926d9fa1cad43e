package cloudconfig

import (
	"net/netip"
	"time"

	"gopkg.in/yaml.v3"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/ipam"
)

// BGP says to which routers nodes speak.
type BGP struct {
	// Peers have unique names, in the order of the file.
	Peers []Peer
	// communities are what aliases stand for.
	communities map[string]communities
}

// Peer is a router, and the nodes that keep a session to it.
type Peer struct {
	announcement.BGPPeer
	// NodeSelector picks the nodes by their labels; nil picks all.
	NodeSelector ipam.Selector
	// Template makes the rest of BGPPeer from a node's labels; the zero value leaves nothing
	// to them.
	Template PeerTemplate
}

// peer returns the peer of that name.
func (b BGP) peer(name string) (Peer, bool) {
	for _, p := range b.Peers {
		if p.Name == name {
			return p, true
		}
	}
	return Peer{}, false
}

// names returns the names of all peers.
func (b BGP) names() []string {
	names := make([]string, 0, len(b.Peers))
	for _, p := range b.Peers {
		names = append(names, p.Name)
	}
	return names
}

func (w *walker) readBGP(n *yaml.Node, path string) BGP {
	b := BGP{communities: map[string]communities{}}
	keys := map[string]reader{
		"communities": func(v *yaml.Node, at string) { b.communities = w.aliases(v, at) },
		"peers":       func(v *yaml.Node, at string) { b.Peers = w.peers(v, at) },
	}
	w.object(n, path, keys)
	return b
}

// peerReader reads peers and remembers where those before were.
type peerReader struct {
	*walker
	named map[string]*yaml.Node
	// places are the peers by router, with the positions of their addresses.
	places map[netip.AddrPort][]place
	// watched are those with bfd, by address.
	watched map[netip.Addr][]place
}

// place is where a peer's address stands, and which nodes speak to it.
type place struct {
	Peer
	at *yaml.Node
}

func (w *walker) peers(n *yaml.Node, path string) []Peer {
	r := peerReader{w, map[string]*yaml.Node{}, map[netip.AddrPort][]place{}, map[netip.Addr][]place{}}
	var peers []Peer
	w.list(n, path, func(v *yaml.Node, at string) { peers = append(peers, r.peer(v, at)) })
	return peers
}

// peer reads one peer. What depends on more than one key is checked once all are read.
func (r peerReader) peer(n *yaml.Node, path string) Peer {
	p := defaultPeer()
	keys := map[string]reader{
		"name":             func(v *yaml.Node, at string) { p.Name = r.peerName(v, at) },
		"address":          func(v *yaml.Node, at string) { p.Address, p.Template.address = r.routerAddress(v, at) },
		"port":             func(v *yaml.Node, at string) { p.Port = uint16(r.integer(v, at, 1, 65535)) }, //nolint:gosec // bounded
		"localASN":         func(v *yaml.Node, at string) { p.LocalASN = r.asn(v, at) },
		"peerASN":          func(v *yaml.Node, at string) { p.PeerASN, p.Template.peerASN = r.peerASN(v, at) },
		"holdTime":         func(v *yaml.Node, at string) { p.HoldTime = r.seconds(v, at, minHoldTime, maxHoldTime) },
		"keepaliveTime":    func(v *yaml.Node, at string) { p.KeepaliveTime = r.seconds(v, at, minKeepaliveTime, maxHoldTime) },
		"connectRetryTime": func(v *yaml.Node, at string) { p.ConnectRetryTime = r.seconds(v, at, minConnectRetry, maxConnectRetry) },
		"sourceAddress":    func(v *yaml.Node, at string) { p.SourceAddress = r.unicast(v, at) },
		"interface":        func(v *yaml.Node, at string) { p.Interface = r.interfaceName(v, at) },
		"routerID":         func(v *yaml.Node, at string) { p.RouterID = r.routerID(v, at) },
		"passwordFile":     func(v *yaml.Node, at string) { p.PasswordFile = r.fileName(v, at) },
		"ebgpMultihop":     func(v *yaml.Node, at string) { p.EBGPMultihop = uint8(r.integer(v, at, 2, 255)) }, //nolint:gosec // bounded
		"ttlSecurity":      func(v *yaml.Node, at string) { p.TTLSecurity = uint8(r.integer(v, at, 1, 254)) },  //nolint:gosec // bounded
		"gracefulRestart":  func(v *yaml.Node, at string) { p.GracefulRestart = r.gracefulRestart(v, at) },
		"families":         func(v *yaml.Node, at string) { p.IPv4, p.IPv6 = r.families(v, at) },
		"extendedNextHop":  func(v *yaml.Node, at string) { p.ExtendedNextHop = r.boolean(v, at) },
		"nodeSelectors":    func(v *yaml.Node, at string) { p.NodeSelector = r.selectors(v, at) },
		"bfd":              func(v *yaml.Node, at string) { p.BFD = r.bfd(v, at) },
	}
	problems := len(r.problems)
	r.object(n, path, keys, "name", "address", "localASN", "peerASN")
	if n.Kind != yaml.MappingNode || len(r.problems) > problems {
		return p
	}
	r.complete(&p)
	r.coherent(n, path, p)
	r.alone(n, path, p)
	return p
}

// complete gives p the values that depend on others.
func (r peerReader) complete(p *Peer) {
	if p.KeepaliveTime == 0 {
		p.KeepaliveTime = p.HoldTime / keepalives
	}
	switch given := p.IPv4 || p.IPv6; {
	case p.Template.address != "":
		p.Template.families = given
	case !given:
		p.IPv4, p.IPv6 = p.Address.Is4(), p.Address.Is6()
	}
}

// coherent checks what keys of one peer say together.
func (r peerReader) coherent(n *yaml.Node, path string, p Peer) {
	where := func(key string) (*yaml.Node, string) {
		if v := lookup(n, key); v != nil && !isNull(v) {
			return v, join(path, key)
		}
		return n, path
	}
	fail := func(key, cure, format string, args ...any) {
		v, at := where(key)
		r.fail(v, at, cure, format, args...)
	}
	switch v, at := where("keepaliveTime"); {
	case p.KeepaliveTime >= p.HoldTime:
		r.fail(v, at, "leave it out for a third of holdTime", "%s is not below holdTime, which is %s: the router would end each session", p.KeepaliveTime, p.HoldTime)
	case p.KeepaliveTime*keepalives > p.HoldTime:
		r.warn(v, at, "leave it out for a third of holdTime", "%s is more than a third of holdTime, which is %s: one lost packet may end a session", p.KeepaliveTime, p.HoldTime)
	}
	if p.EBGPMultihop > 0 && p.TTLSecurity > 0 {
		fail("ttlSecurity", "remove one of the two; ttlSecurity says itself how many hops away the router may be", "cannot go with ebgpMultihop: one sends packets with a low TTL, the other accepts none")
	}
	if p.EBGPMultihop > 0 && p.Internal() {
		fail("ebgpMultihop", "remove it", "localASN and peerASN are the same: an internal peer may be any number of hops away")
	}
	if p.SourceAddress.IsValid() && p.Address.IsValid() && p.SourceAddress.Is4() != p.Address.Is4() {
		fail("sourceAddress", "give one of the address's family", "%s cannot connect to %s", p.SourceAddress, routerText(p))
	}
	if p.ExtendedNextHop && p.Address.Is4() {
		fail("extendedNextHop", "remove it, or give the router's IPv6 address", "a session to %s has IPv4 next hops for IPv4 prefixes", routerText(p))
	}
	if p.ExtendedNextHop && !p.IPv4 {
		fail("extendedNextHop", "add families: [ipv4, ipv6]", "is about IPv4 prefixes, which are not among its families")
	}
	if p.SourceAddress.IsValid() && p.SourceAddress == p.Address {
		fail("sourceAddress", "give an address of the node", "%s is the router's address", p.SourceAddress)
	}
	if p.SourceAddress.IsValid() && p.Interface != "" {
		fail("interface", "remove one of the two", "cannot go with sourceAddress")
	}
	r.watchable(n, path, p)
	oneNode := func(key string, set bool) {
		if v, at := where(key); set && p.NodeSelector == nil {
			r.warn(v, at, "add nodeSelectors that pick one node", "every node has the same %s", key)
		}
	}
	oneNode("sourceAddress", p.SourceAddress.IsValid())
	oneNode("routerID", p.RouterID.IsValid())
}

// watchable checks what bfd says beside other keys, and other peers.
func (r peerReader) watchable(n *yaml.Node, path string, p Peer) {
	v, at := lookup(n, "bfd"), join(path, "bfd")
	if !p.BFD.Watches() {
		return
	}
	if detection := time.Duration(p.BFD.DetectMultiplier) * p.BFD.TransmitInterval; detection >= p.HoldTime {
		r.fail(v, at, "shorten transmitInterval, or lower detectMultiplier", "the router would miss a node after %s at the earliest, and holdTime is %s: BFD would find out nothing sooner", detection, p.HoldTime)
	}
	if p.BFD.MinimumTTL > 0 && !p.SeveralHops() && !p.Internal() {
		r.fail(lookup(v, "minimumTTL"), join(at, "minimumTTL"), "remove it", "the router is on the same network, from where packets arrive with a TTL of 255 and count with no other")
	}
	if !p.Address.IsValid() {
		return // what a node's labels make only the node can tell
	}
	for _, other := range r.watched[p.Address] {
		if other.BFD != p.BFD && mayMeet(p.NodeSelector, other.NodeSelector) {
			r.fail(v, at, "have both say the same", "peer %q at %d:%d has the same address, and a path is watched in one way only", other.Name, other.at.Line, other.at.Column)
			return
		}
	}
	r.watched[p.Address] = append(r.watched[p.Address], place{p, lookup(n, "address")})
}

// alone checks that no node has two sessions to one router: the second would end the first
// (RFC 4271 section 6.8). What a node's labels make only the node can tell.
func (r peerReader) alone(n *yaml.Node, path string, p Peer) {
	if !p.Address.IsValid() {
		return
	}
	router := netip.AddrPortFrom(p.Address, p.Port)
	for _, other := range r.places[router] {
		if mayMeet(p.NodeSelector, other.NodeSelector) {
			r.fail(lookup(n, "address"), join(path, "address"), "remove one of the two, or give them nodeSelectors that pick different nodes",
				"peer %q has the same address and port, at %d:%d", other.Name, other.at.Line, other.at.Column)
			return
		}
	}
	r.places[router] = append(r.places[router], place{p, lookup(n, "address")})
}

// mayMeet says of two selectors that they surely have nodes in common: one picks all, or
// they are the same. Whether two others do depends on the nodes.
func mayMeet(a, b ipam.Selector) bool {
	return a == nil || b == nil || a.String() == b.String()
}
