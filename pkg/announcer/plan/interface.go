package plan

import (
	"cmp"
	"net/netip"
	"slices"
)

// These bound what a node says of its interfaces: enough for any machine that carries
// addresses, and little to keep and to send for those that hear of it.
const (
	// MaxInterfaces is how many interfaces a node reports.
	MaxInterfaces = 64
	// MaxPrefixes is how many addresses an interface has in a report, MaxDestinations how many
	// destinations and MaxPorts how many hardware addresses of ports.
	MaxPrefixes     = 32
	MaxDestinations = 32
	MaxPorts        = 16
)

// Interface is a network interface as its node reports it.
type Interface struct {
	Name string
	// MAC is the hardware address in its canonical text form.
	MAC string
	// Ports are the hardware addresses, sorted, of the ports of a bond, without MAC: a bond
	// that balances by ARP answers with those.
	Ports []string
	// Prefixes are the interface's addresses that can be used, with their on-link prefix lengths.
	Prefixes []netip.Prefix
	// Destinations are what the kernel sends out by this interface, sorted: of two routes with
	// one prefix the one that it does not use is nowhere among them. Link-local ones are left out.
	Destinations []Destination
	// NoIPv4 and NoIPv6 report whether no packet of the family can be sent by this interface: it has
	// no usable address that the kernel needs for that, or no route.
	NoIPv4, NoIPv6 bool
	// Down reports whether the interface carries nothing at present. It is reported all the same,
	// because its prefixes tell which segment is out of reach.
	Down bool
}

// Destination is the prefix of a route.
type Destination struct {
	// Prefix has no host bits; of a default route it has no bits at all.
	Prefix netip.Prefix
	// OnLink reports whether the hosts of the prefix are on the segment itself, behind no gateway.
	OnLink bool
}

// Compare returns -1, 0 or +1 as d comes before, is equal to, or comes after e.
func (d Destination) Compare(e Destination) int {
	onLink := func(d Destination) int {
		if d.OnLink {
			return 1
		}
		return 0
	}
	return cmp.Or(ComparePrefixes(d.Prefix, e.Prefix), onLink(d)-onLink(e))
}

// Equal reports whether i and j say the same.
func (i Interface) Equal(j Interface) bool {
	return i.Name == j.Name && i.MAC == j.MAC && i.NoIPv4 == j.NoIPv4 && i.NoIPv6 == j.NoIPv6 && i.Down == j.Down &&
		slices.Equal(i.Ports, j.Ports) && slices.Equal(i.Prefixes, j.Prefixes) && slices.Equal(i.Destinations, j.Destinations)
}

// Sends reports whether a packet to an address of that family can be sent by the interface,
// apart from whether it is down.
func (i Interface) Sends(to netip.Addr) bool {
	if to.Is4() {
		return !i.NoIPv4
	}
	return !i.NoIPv6
}

// IsGateway reports whether a default route of the family leaves by the interface.
func (i Interface) IsGateway(ipv4 bool) bool {
	return slices.ContainsFunc(i.Destinations, func(d Destination) bool {
		return d.Prefix.Bits() == 0 && d.Prefix.Addr().Is4() == ipv4
	})
}

// longestPrefix returns the length of the longest prefix that leads to an address by the interface;
// less than zero is none. The kernel forgets the routes of an interface that is down, which
// its addresses tell.
func (i Interface) longestPrefix(to netip.Addr) int {
	longest := -1
	for _, d := range i.Destinations {
		if d.Prefix.Contains(to) {
			longest = max(longest, d.Prefix.Bits())
		}
	}
	for _, p := range i.Prefixes {
		if i.Down && p.Contains(to) {
			longest = max(longest, p.Bits())
		}
	}
	return longest
}

// OnLink reports whether address is on the segment of one of a node's interfaces, be it down
// or not, by a prefix longer than that of a default route.
func OnLink(address netip.Addr, interfaces []Interface) bool {
	return slices.ContainsFunc(interfaces, func(i Interface) bool {
		return slices.ContainsFunc(i.Segments(), func(p netip.Prefix) bool { return p.Contains(address) })
	})
}

// Segments returns the prefixes, longer than that of a default route, whose hosts are on the
// interface's segment.
func (i Interface) Segments() []netip.Prefix {
	var out []netip.Prefix
	for _, d := range i.Destinations {
		if d.OnLink && d.Prefix.Bits() > 0 {
			out = append(out, d.Prefix)
		}
	}
	for _, p := range i.Prefixes {
		if i.Down && p.Bits() > 0 && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.Masked())
		}
	}
	return out
}

// sharesSegment reports whether i and j are on one segment, as far as their addresses tell, and
// whether the kernel uses i for what they share, and j.
func (i Interface) sharesSegment(j Interface) (segment, uses, otherUses bool) {
	for _, p := range i.Prefixes {
		for _, q := range j.Prefixes {
			if p.Addr().IsLinkLocalUnicast() || p.IsSingleIP() || q.IsSingleIP() || !p.Overlaps(q) {
				continue
			}
			segment = true
			uses = uses || slices.Contains(i.Destinations, Destination{p.Masked(), true})
			otherUses = otherUses || slices.Contains(j.Destinations, Destination{q.Masked(), true})
		}
	}
	return segment, uses, otherUses
}
