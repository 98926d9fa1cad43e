package config

import (
	"net/netip"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
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
	plan.BGPPeer
	// NodeSelector picks the nodes by their labels; nil picks all.
	NodeSelector ipam.Selector
	// Template makes the rest of BGPPeer from a node's labels; the zero value leaves nothing
	// to them.
	Template PeerTemplate
}

// peerNamed returns the peer of that name.
func (b BGP) peerNamed(name string) (Peer, bool) {
	for _, p := range b.Peers {
		if p.Name == name {
			return p, true
		}
	}
	return Peer{}, false
}

// peerNames returns the names of all peers.
func (b BGP) peerNames() []string {
	names := make([]string, 0, len(b.Peers))
	for _, p := range b.Peers {
		names = append(names, p.Name)
	}
	return names
}

func (c *checker) checkBGP(s spot, shape bgpShape) BGP {
	b := BGP{communities: readAliases(s.key("communities"), shape.Communities)}
	r := peerReader{c, map[string]spot{}, map[netip.AddrPort][]placed{}, map[netip.Addr][]placed{}}
	for i, peer := range shape.Peers {
		b.Peers = append(b.Peers, r.readPeer(s.key("peers").item(i), peer))
	}
	return b
}

// peerReader checks peers and remembers where those before were.
type peerReader struct {
	*checker
	named map[string]spot
	// places are the peers by router.
	places map[netip.AddrPort][]placed
	// watched are those with bfd, by address.
	watched map[netip.Addr][]placed
}

// placed is a peer with its place in the file.
type placed struct {
	Peer
	spot spot
}

func (p *peerShape) setDefaults() {
	p.Port, p.HoldTime, p.ConnectRetryTime = 179, 30*time.Second, 5*time.Second
}

// readPeer checks one peer. What depends on more than one key is checked if each of them is right.
func (r peerReader) readPeer(s spot, shape peerShape) Peer {
	p := Peer{
		BGPPeer: plan.BGPPeer{
			Name:             r.peerName(s.key("name"), shape.Name),
			Address:          routerAddress(s.key("address"), shape.Address),
			Port:             uint16(checkBetween(s.key("port"), shape.Port, 1, 65535)), //nolint:gosec // bounded
			LocalASN:         readASN(s.key("localASN"), shape.LocalASN),
			PeerASN:          peerASN(s.key("peerASN"), shape.PeerASN),
			HoldTime:         wholeSeconds(s.key("holdTime"), shape.HoldTime, minHoldTime, maxHoldTime),
			KeepaliveTime:    wholeSeconds(s.key("keepaliveTime"), shape.KeepaliveTime, minKeepaliveTime, maxHoldTime),
			ConnectRetryTime: wholeSeconds(s.key("connectRetryTime"), shape.ConnectRetryTime, minConnectRetry, maxConnectRetry),
			SourceAddress:    readUnicast(s.key("sourceAddress"), shape.SourceAddress),
			Interface:        interfaceName(s.key("interface"), shape.Interface),
			RouterID:         routerID(s.key("routerID"), shape.RouterID),
			PasswordFile:     fileName(s.key("passwordFile"), shape.PasswordFile),
			EBGPMultihop:     uint8(checkBetween(s.key("ebgpMultihop"), shape.EBGPMultihop, 2, 255)), //nolint:gosec // bounded
			TTLSecurity:      uint8(checkBetween(s.key("ttlSecurity"), shape.TTLSecurity, 1, 254)),   //nolint:gosec // bounded
			GracefulRestart:  gracefulRestart(s.key("gracefulRestart"), shape.GracefulRestart),
			ExtendedNextHop:  shape.ExtendedNextHop,
			BFD:              readBFD(s.key("bfd"), shape.BFD),
		},
		NodeSelector: selectorOf(s.key("nodeSelectors"), shape.NodeSelectors),
		Template:     PeerTemplate{address: shape.Address.template, peerASN: shape.PeerASN.template},
	}
	p.IPv4, p.IPv6 = readFamilies(s.key("families"), shape.Families)
	if !s.given() || r.hasProblems(s.path) {
		return p
	}
	completePeer(&p)
	r.checkCoherent(s, p)
	r.checkAlone(s, p)
	return p
}

// completePeer gives p the values that depend on others.
func completePeer(p *Peer) {
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

// checkCoherent checks what keys of one peer say together.
func (r peerReader) checkCoherent(s spot, p Peer) {
	switch keepalive := s.keyOr("keepaliveTime"); {
	case p.KeepaliveTime >= p.HoldTime:
		keepalive.fail("leave it out for a third of holdTime", "%s is not below holdTime, which is %s: the router would end each session", p.KeepaliveTime, p.HoldTime)
	case p.KeepaliveTime*keepalives > p.HoldTime:
		keepalive.warn("leave it out for a third of holdTime", "%s is more than a third of holdTime, which is %s: one lost packet may end a session", p.KeepaliveTime, p.HoldTime)
	}
	if p.EBGPMultihop > 0 && p.TTLSecurity > 0 {
		s.keyOr("ttlSecurity").fail("remove one of the two; ttlSecurity says itself how many hops away the router may be", "cannot go with ebgpMultihop: one sends packets with a low TTL, the other accepts none")
	}
	if p.EBGPMultihop > 0 && p.Internal() {
		s.keyOr("ebgpMultihop").fail("remove it", "localASN and peerASN are the same: an internal peer may be any number of hops away")
	}
	if p.ExtendedNextHop && p.Address.Is4() {
		s.keyOr("extendedNextHop").fail("remove it, or give the router's IPv6 address", "a session to %s has IPv4 next hops for IPv4 prefixes", routerText(p))
	}
	if p.ExtendedNextHop && !p.IPv4 {
		s.keyOr("extendedNextHop").fail("add families: [ipv4, ipv6]", "is about IPv4 prefixes, which are not among its families")
	}
	if p.SourceAddress.IsValid() {
		checkSource(s, p)
	}
	r.checkBFD(s, p)
	if p.NodeSelector != nil {
		return
	}
	for key, set := range map[string]bool{"sourceAddress": p.SourceAddress.IsValid(), "routerID": p.RouterID.IsValid()} {
		if set {
			s.keyOr(key).warn("add nodeSelectors that pick one node", "every node has the same %s", key)
		}
	}
}

// checkSource checks the address to speak from beside the router's.
func checkSource(s spot, p Peer) {
	source := s.keyOr("sourceAddress")
	if p.Address.IsValid() && p.SourceAddress.Is4() != p.Address.Is4() {
		source.fail("give one of the address's family", "%s cannot connect to %s", p.SourceAddress, routerText(p))
	}
	if p.SourceAddress == p.Address {
		source.fail("give an address of the node", "%s is the router's address", p.SourceAddress)
	}
	if p.Interface != "" {
		s.keyOr("interface").fail("remove one of the two", "cannot go with sourceAddress")
	}
}

// checkBFD checks what bfd says beside other keys, and other peers.
func (r peerReader) checkBFD(peer spot, p Peer) {
	if !p.BFD.Watches() {
		return
	}
	s := peer.key("bfd")
	if detection := time.Duration(p.BFD.DetectMultiplier) * p.BFD.TransmitInterval; detection >= p.HoldTime {
		s.fail("shorten transmitInterval, or lower detectMultiplier", "the router would miss a node after %s at the earliest, and holdTime is %s: BFD would find out nothing sooner", detection, p.HoldTime)
	}
	if p.BFD.MinimumTTL > 0 && !p.SeveralHops() && !p.Internal() {
		s.key("minimumTTL").fail("remove it", "the router is on the same network, from where packets arrive with a TTL of 255 and count with no other")
	}
	if !p.Address.IsValid() {
		return // what a node's labels make only the node can tell
	}
	for _, other := range r.watched[p.Address] {
		if other.BFD != p.BFD && mayMeet(p.NodeSelector, other.NodeSelector) {
			s.fail("have both say the same", "peer %q at %s has the same address, and a path is watched in one way only", other.Name, other.spot.position())
			return
		}
	}
	r.watched[p.Address] = append(r.watched[p.Address], placed{p, peer.key("address")})
}

// checkAlone checks that no node has two sessions to one router: the second would end the first
// (RFC 4271 section 6.8). What a node's labels make only the node can tell.
func (r peerReader) checkAlone(s spot, p Peer) {
	if !p.Address.IsValid() {
		return
	}
	address := s.key("address")
	router := netip.AddrPortFrom(p.Address, p.Port)
	for _, other := range r.places[router] {
		if mayMeet(p.NodeSelector, other.NodeSelector) {
			address.fail("remove one of the two, or give them nodeSelectors that pick different nodes",
				"peer %q has the same address and port, at %s", other.Name, other.spot.position())
			return
		}
	}
	r.places[router] = append(r.places[router], placed{p, address})
}
