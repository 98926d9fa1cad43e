package bgp

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// Host is what a node knows of itself.
type Host struct {
	// NodeIPs are the addresses of the Node object, if they are known.
	NodeIPs []netip.Addr
	// Interfaces are those that can carry something, and Defaults the default routes in the order
	// of preference.
	Interfaces []plan.Interface
	Defaults   []plan.DefaultRoute
	// Deprecated are addresses that nothing new should use (RFC 4862 section 5.5.4).
	Deprecated []netip.Addr
}

// Resolve adds to a plan what the node knows itself: its BGP Identifier, its default gateway
// where that is the router, and by which of its addresses each router reaches it.
func Resolve(id netip.Addr, set plan.NodePlan, host Host) Desired {
	interfaces := host.Interfaces
	d := Desired{Plan: set.Version, Advertisements: set.BGP.Advertisements, Routes: set.BGP.Routes}
	taken := map[netip.AddrPort]string{}
	for _, p := range byPrecedence(set.BGP.Peers) {
		peer := Peer{BGPPeer: p, RouterID: p.RouterID}
		var err error
		if p.Gateway() {
			peer.BGPPeer, err = throughGateway(p, interfaces, host.Defaults)
		}
		router := netip.AddrPortFrom(peer.Address, p.Port)
		switch other, twice := taken[router]; {
		case err != nil:
			d.Without = append(d.Without, sessionWithout(p, reason.NoGateway, err.Error()))
			continue
		case twice:
			d.Without = append(d.Without, sessionWithout(p, reason.DuplicatePeer, fmt.Sprintf("%s is also the address of the peer %s on this node", peer.Address, other)))
			continue
		}
		taken[router] = p.Name
		if !peer.RouterID.IsValid() {
			peer.RouterID = id
		}
		peer.NextHopV4, peer.NextHopV6 = host.nextHops(peer.BGPPeer)
		peer.Adjacent = isAdjacent(peer.BGPPeer, interfaces)
		if zone := peer.Address.Zone(); zone != "" && !peer.SourceAddress.IsValid() {
			peer.SourceAddress, _ = linkLocal(zone, interfaces) // it is there, or there is no such peer
		}
		d.Peers = append(d.Peers, peer)
	}
	slices.SortFunc(d.Peers, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	sortSessions(d.Without)
	return d
}

// byPrecedence returns peers so that of two with the same router the first counts: one with an
// address of its own before one that follows the gateway, else by name.
func byPrecedence(peers []plan.BGPPeer) []plan.BGPPeer {
	peers = slices.Clone(peers)
	slices.SortStableFunc(peers, func(a, b plan.BGPPeer) int {
		switch {
		case a.Gateway() == b.Gateway():
			return cmp.Compare(a.Name, b.Name)
		case b.Gateway():
			return -1
		}
		return 1
	})
	return peers
}

// sessionWithout is the session to p that there is not.
func sessionWithout(p plan.BGPPeer, why reason.Reason, message string) Session {
	return Session{BGPSession: plan.BGPSession{Peer: p.Name, State: plan.BGPIdle, Reason: why, Message: message}, held: true}
}

// throughGateway returns p with the address of the node's default gateway of the family, by p's
// interface if it names one. The error says why there is none that can be used.
func throughGateway(p plan.BGPPeer, interfaces []plan.Interface, defaults []plan.DefaultRoute) (plan.BGPPeer, error) {
	i := slices.IndexFunc(defaults, func(r plan.DefaultRoute) bool {
		return r.Gateway.Is4() == p.Address.Is4() && (p.Interface == "" || p.Interface == r.Interface)
	})
	family, by := "IPv6", ""
	if p.Address.Is4() {
		family = "IPv4"
	}
	if p.Interface != "" {
		by = " by " + p.Interface
	}
	if i < 0 {
		return p, fmt.Errorf("the node has no default gateway of %s%s", family, by)
	}
	p.Address = defaults[i].Gateway
	zone := p.Address.Zone()
	if zone == "" {
		return p, nil
	}
	if p.PasswordFile != "" {
		return p, fmt.Errorf("the default gateway %s is link-local, and there are no passwords for such; give the gateway a global address, or the peer no passwordFile", p.Address)
	}
	if _, ok := linkLocal(zone, interfaces); !ok {
		return p, fmt.Errorf("the default gateway %s is link-local, and %s has no link-local address", p.Address, zone)
	}
	return p, nil
}

// linkLocal returns the node's IPv6 link-local address on the interface called name.
func linkLocal(name string, interfaces []plan.Interface) (netip.Addr, bool) {
	for _, i := range interfaces {
		for _, p := range i.Prefixes {
			if i.Name == name && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				return p.Addr().WithZone(name), true
			}
		}
	}
	return netip.Addr{}, false
}

// Identifier returns a BGP Identifier that no other node has: the Node's own IPv4 address
// (RFC 4271 section 4.2), or where that is not known the lowest one of the interface with a
// default route, of either family, or else of any; where there is none, a hash of the node's
// name (RFC 6286 asks for nothing more than four bytes that are not zero).
func (h Host) Identifier(node string) netip.Addr {
	for _, a := range h.NodeIPs {
		if a.Is4() && !a.IsUnspecified() {
			return a
		}
	}
	for _, wanted := range []func(plan.Interface) bool{
		func(i plan.Interface) bool { return i.IsGateway(true) || i.IsGateway(false) },
		func(plan.Interface) bool { return true },
	} {
		var all []netip.Addr
		for _, i := range h.Interfaces {
			for _, p := range i.Prefixes {
				if wanted(i) && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
					all = append(all, p.Addr())
				}
			}
		}
		if len(all) > 0 {
			return slices.MinFunc(all, netip.Addr.Compare)
		}
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(node)) // never fails
	var id [4]byte
	binary.BigEndian.PutUint32(id[:], hash.Sum32()|1)
	return netip.AddrFrom4(id)
}

// nextHops returns the node's address of each family on the interface that leads to the
// router, the zero Addr where it has none. A session that is established has its own address as
// the one of its family.
func (h Host) nextHops(p plan.BGPPeer) (v4, v6 netip.Addr) {
	for _, i := range leadingInterfaces(p, h.Interfaces) {
		v4, v6 = h.hop(p, i, netip.Addr.Is4), h.hop(p, i, netip.Addr.Is6)
		if v4.IsValid() || v6.IsValid() {
			break
		}
	}
	if p.SourceAddress.Is4() {
		v4 = p.SourceAddress
	} else if p.SourceAddress.Is6() {
		v6 = p.SourceAddress
	}
	return v4, v6
}

// hop returns the address of an interface by which a router reaches the node: one that is not
// deprecated before one that is, then one on the router's own network, then the Node's own,
// then the first.
func (h Host) hop(p plan.BGPPeer, i plan.Interface, family func(netip.Addr) bool) netip.Addr {
	var best netip.Addr
	var rank [3]int
	for _, prefix := range i.Prefixes {
		a := prefix.Addr()
		if !a.IsGlobalUnicast() || !family(a) {
			continue
		}
		r := [3]int{truth(!slices.Contains(h.Deprecated, a)), truth(prefix.Contains(p.Address)), truth(slices.Contains(h.NodeIPs, a))}
		if !best.IsValid() || slices.Compare(r[:], rank[:]) > 0 {
			best, rank = a, r
		}
	}
	return best
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// isAdjacent reports whether the router is on a network of an interface that leads to it.
func isAdjacent(p plan.BGPPeer, interfaces []plan.Interface) bool {
	return p.Address.Zone() != "" || slices.ContainsFunc(leadingInterfaces(p, interfaces), func(i plan.Interface) bool {
		return slices.ContainsFunc(i.Prefixes, func(x netip.Prefix) bool { return x.Contains(p.Address) })
	})
}

// leadingInterfaces returns the interfaces by which the node reaches the router.
func leadingInterfaces(p plan.BGPPeer, interfaces []plan.Interface) []plan.Interface {
	if p.SourceAddress.IsValid() {
		return slices.DeleteFunc(slices.Clone(interfaces), func(i plan.Interface) bool {
			return !slices.ContainsFunc(i.Prefixes, func(x netip.Prefix) bool { return x.Addr() == p.SourceAddress })
		})
	}
	out, err := plan.SelectInterfaces(cmp.Or(p.Interface, p.Address.Zone()), p.Address, interfaces)
	if err != nil {
		return nil
	}
	return out
}
