package announcer

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/netstate"
)

// ports are answers turned around: for each family and interface the addresses that are
// answered there. An interface that has another hardware address is another one.
type ports map[portKey]*responder.Port

type portKey struct {
	family family
	index  int
	name   string
	mac    string
}

// keyOf returns the key of an interface; the hardware addresses of a bond's ports belong to it.
func keyOf(f family, i netstate.Interface) portKey {
	return portKey{f, i.Index, i.Name, string(slices.Concat(append([]net.HardwareAddr{i.MAC}, i.Ports...)...))}
}

// addAddress adds interfaces to those on which address is answered, and removeAddress takes them
// away.
func (p ports) addAddress(address netip.Addr, interfaces []netstate.Interface) {
	for _, i := range interfaces {
		key := keyOf(familyOf(address), i)
		port := responder.Port{Index: i.Index, Name: i.Name, MAC: i.MAC, Ports: i.Ports}
		if known := p[key]; known != nil {
			port = *known // A responder that has it keeps what it was.
		}
		port.Addresses = port.Addresses.With(responder.Address(address))
		p[key] = &port
	}
}

func (p ports) removeAddress(address netip.Addr, interfaces []netstate.Interface) {
	for _, i := range interfaces {
		key := keyOf(familyOf(address), i)
		port := *p[key]
		port.Addresses = port.Addresses.Without(address)
		p[key] = &port
		if port.Addresses.Len() == 0 {
			delete(p, key)
		}
	}
}

// portsOf returns the ports of a family, sorted by index.
func (p ports) portsOf(f family) []*responder.Port {
	var out []*responder.Port
	for key, port := range p {
		if key.family == f {
			out = append(out, port)
		}
	}
	slices.SortFunc(out, func(a, b *responder.Port) int { return cmp.Compare(a.Index, b.Index) })
	return out
}

// peerInterfaces count, by peer and interface, the addresses whose lists name the peer and that
// the interface would carry; under "" they count all addresses.
type peerInterfaces map[string]map[string]int

// countOption counts o, or with a negative by counts it no more. It reports whether an interface
// begins or ends to carry something for a peer, or at all.
func (c peerInterfaces) countOption(o option, by int) (changed bool) {
	for _, i := range o.interfaces {
		changed = c.countPeer("", i.Name, by) || changed
		for _, peer := range o.Candidates {
			changed = c.countPeer(peer, i.Name, by) || changed
		}
	}
	return changed
}

func (c peerInterfaces) countPeer(peer, name string, by int) (changed bool) {
	if c[peer] == nil {
		c[peer] = map[string]int{}
	}
	before := c[peer][name]
	c[peer][name] = before + by
	if c[peer][name] == 0 {
		delete(c[peer], name)
	}
	if len(c[peer]) == 0 {
		delete(c, peer)
	}
	return before == 0 || before+by == 0
}

// sharedWith says of an interface whether it carries an address that the node shares with peer,
// or any where it shares none.
func (c peerInterfaces) sharedWith(peer string) func(name string) bool {
	shared := c[peer]
	if len(shared) == 0 {
		shared = c[""]
	}
	shared = maps.Clone(shared)
	return func(name string) bool { return shared[name] > 0 }
}
