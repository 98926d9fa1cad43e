package bgp

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// Resolve adds to a plan what the node knows itself: its BGP Identifier, and by which of its
// addresses each router reaches it. Interfaces are those that can carry something.
func Resolve(node string, set announcement.Set, interfaces []announcement.Interface) Desired {
	d := Desired{Plan: set.Stamp, Advertisements: set.BGP.Advertisements, Routes: set.BGP.Routes}
	for _, p := range set.BGP.Peers {
		peer := Peer{BGPPeer: p, RouterID: p.RouterID}
		if !peer.RouterID.IsValid() {
			peer.RouterID = identifier(node, interfaces)
		}
		peer.NextHopV4, peer.NextHopV6 = nextHops(p, interfaces)
		peer.Adjacent = adjacent(p, interfaces)
		d.Peers = append(d.Peers, peer)
	}
	return d
}

// identifier returns a BGP Identifier that no other node has: the lowest IPv4 address of the
// interface with the default route, or else of any; where there is none, a hash of the node's
// name (RFC 6286 asks for nothing more than four bytes that are not zero).
func identifier(node string, interfaces []announcement.Interface) netip.Addr {
	for _, wanted := range []func(announcement.Interface) bool{
		func(i announcement.Interface) bool { return i.Default },
		func(announcement.Interface) bool { return true },
	} {
		var all []netip.Addr
		for _, i := range interfaces {
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
	h := fnv.New32a()
	_, _ = h.Write([]byte(node)) // never fails
	var id [4]byte
	binary.BigEndian.PutUint32(id[:], h.Sum32()|1)
	return netip.AddrFrom4(id)
}

// nextHops returns the node's address of each family on the interface that leads to the
// router, the zero Addr where it has none.
func nextHops(p announcement.BGPPeer, interfaces []announcement.Interface) (v4, v6 netip.Addr) {
	for _, i := range leading(p, interfaces) {
		for _, prefix := range i.Prefixes {
			a := prefix.Addr()
			if !a.IsGlobalUnicast() {
				continue
			}
			hop := &v6
			if a.Is4() {
				hop = &v4
			}
			// The one on the router's own network, if there is one; else the first.
			if !hop.IsValid() || prefix.Contains(p.Address) {
				*hop = a
			}
		}
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

// adjacent reports whether the router is on a network of an interface that leads to it.
func adjacent(p announcement.BGPPeer, interfaces []announcement.Interface) bool {
	return slices.ContainsFunc(leading(p, interfaces), func(i announcement.Interface) bool {
		return slices.ContainsFunc(i.Prefixes, func(x netip.Prefix) bool { return x.Contains(p.Address) })
	})
}

// leading returns the interfaces by which the node reaches the router.
func leading(p announcement.BGPPeer, interfaces []announcement.Interface) []announcement.Interface {
	if p.SourceAddress.IsValid() {
		return slices.DeleteFunc(slices.Clone(interfaces), func(i announcement.Interface) bool {
			return !slices.ContainsFunc(i.Prefixes, func(x netip.Prefix) bool { return x.Addr() == p.SourceAddress })
		})
	}
	out, err := announcement.SelectInterfaces(p.Interface, p.Address, interfaces)
	if err != nil {
		return nil
	}
	return out
}
