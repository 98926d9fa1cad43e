package link

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// dumpTries is how often a dump that the kernel calls inconsistent is repeated before
// the next notification is left to mend it.
const dumpTries = 3

// classes says which of the three tables are read.
type classes struct{ links, addresses, routes bool }

func (c classes) any() bool { return c.links || c.addresses || c.routes }

func (c classes) or(d classes) classes {
	return classes{c.links || d.links, c.addresses || d.addresses, c.routes || d.routes}
}

// tables is the kernel's state in its own three parts, each read again only when a
// notification of that part has come.
type tables struct {
	links     []Interface
	addresses map[int][]netip.Prefix
	local     map[int][]netip.Prefix
	defaults  map[int]bool
	gateways  []netip.Addr
	// preferred are the default routes that have a gateway, in the order of their metrics.
	preferred []defaultRoute
}

// defaultRoute is a default route by one gateway.
type defaultRoute struct {
	gateway       netip.Addr
	index, metric int
}

func (r defaultRoute) compare(s defaultRoute) int {
	return cmp.Or(cmp.Compare(r.metric, s.metric), r.gateway.Compare(s.gateway), cmp.Compare(r.index, s.index))
}

// read brings the parts in which up to date.
func (t *tables) read(handle *netlink.Handle, which classes) error {
	if which.links {
		if err := t.readLinks(handle); err != nil {
			return fmt.Errorf("list interfaces: %w", err)
		}
	}
	if which.addresses {
		if err := t.readAddresses(handle); err != nil {
			return fmt.Errorf("list addresses: %w", err)
		}
	}
	if which.routes {
		if err := t.readRoutes(handle); err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
	}
	return nil
}

func (t *tables) readLinks(handle *netlink.Handle) error {
	links, err := dump(handle.LinkList)
	if err != nil {
		return err
	}
	t.links = t.links[:0:0]
	for _, l := range links {
		a := l.Attrs()
		t.links = append(t.links, Interface{
			Index: a.Index, Name: a.Name, Kind: l.Type(), MAC: a.HardwareAddr, Master: a.MasterIndex,
			Up:        a.RawFlags&unix.IFF_UP != 0,
			Running:   a.RawFlags&unix.IFF_RUNNING != 0,
			Broadcast: a.RawFlags&unix.IFF_BROADCAST != 0,
			NoARP:     a.RawFlags&unix.IFF_NOARP != 0,
			Loopback:  a.RawFlags&unix.IFF_LOOPBACK != 0,
		})
	}
	slices.SortFunc(t.links, func(a, b Interface) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func (t *tables) readAddresses(handle *netlink.Handle) error {
	addresses, err := dump(func() ([]netlink.Addr, error) { return handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	t.addresses, t.local = make(map[int][]netip.Prefix), make(map[int][]netip.Prefix)
	for _, a := range addresses {
		prefix, ok := toPrefix(a.IPNet)
		switch {
		case !ok || a.Flags&unix.IFA_F_TENTATIVE != 0 && prefix.Addr().IsLinkLocalUnicast():
		case prefix.Addr().Is6() && prefix.Addr().IsLinkLocalUnicast():
			t.local[a.LinkIndex] = append(t.local[a.LinkIndex], prefix)
		case !prefix.Addr().IsLinkLocalUnicast():
			t.addresses[a.LinkIndex] = append(t.addresses[a.LinkIndex], prefix)
		}
	}
	for _, table := range []map[int][]netip.Prefix{t.addresses, t.local} {
		for _, prefixes := range table {
			slices.SortFunc(prefixes, comparePrefix)
		}
	}
	return nil
}

// readRoutes keeps of the main table what is needed, not the table: a router may hold a
// million routes.
func (t *tables) readRoutes(handle *netlink.Handle) error {
	found, err := dump(func() (routes, error) { return listRoutes(handle) })
	if err != nil {
		return err
	}
	t.defaults = found.defaults
	t.gateways = slices.SortedFunc(maps.Keys(found.gateways), netip.Addr.Compare)
	slices.SortFunc(found.preferred, defaultRoute.compare)
	t.preferred = found.preferred
	return nil
}

type routes struct {
	defaults map[int]bool
	gateways map[netip.Addr]bool
	// preferred are the default routes that have a gateway.
	preferred []defaultRoute
}

func (r *routes) add(index, metric int, gateway net.IP, via netlink.Destination, isDefault bool) {
	if isDefault && index != 0 {
		r.defaults[index] = true
	}
	if v, ok := via.(*netlink.Via); ok {
		gateway = v.Addr
	}
	if address, ok := netip.AddrFromSlice(gateway); ok {
		r.gateways[address.Unmap()] = true
		if isDefault {
			r.preferred = append(r.preferred, defaultRoute{address.Unmap(), index, metric})
		}
	}
}

func listRoutes(handle *netlink.Handle) (routes, error) {
	found := routes{defaults: map[int]bool{}, gateways: map[netip.Addr]bool{}}
	err := handle.RouteListFilteredIter(netlink.FAMILY_ALL, &netlink.Route{}, 0, func(r netlink.Route) bool {
		if r.Type != unix.RTN_UNICAST {
			return true
		}
		isDefault := r.Dst == nil
		if prefix, ok := toPrefix(r.Dst); ok {
			isDefault = prefix.Bits() == 0
		}
		found.add(r.LinkIndex, r.Priority, r.Gw, r.Via, isDefault)
		for _, hop := range r.MultiPath {
			found.add(hop.LinkIndex, r.Priority, hop.Gw, hop.Via, isDefault)
		}
		return true
	})
	return found, err
}

// snapshot puts the parts together.
func (t *tables) snapshot() Snapshot {
	s := Snapshot{Interfaces: slices.Clone(t.links), Gateways: t.gateways}
	for i := range s.Interfaces {
		index := s.Interfaces[i].Index
		s.Interfaces[i].Prefixes = t.addresses[index]
		s.Interfaces[i].LinkLocal = t.local[index]
		s.Interfaces[i].Default = t.defaults[index]
	}
	for _, r := range t.preferred {
		i := slices.IndexFunc(t.links, func(i Interface) bool { return i.Index == r.index })
		if i < 0 { // it came after the links were read, which are read again then
			continue
		}
		route := announcement.DefaultRoute{Gateway: r.gateway, Interface: t.links[i].Name}
		if r.gateway.IsLinkLocalUnicast() && r.gateway.Is6() {
			route.Gateway = r.gateway.WithZone(route.Interface)
		}
		s.Defaults = append(s.Defaults, route)
	}
	return s
}

// dump repeats a listing that was interrupted by a change.
func dump[T any](list func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		result, err := list()
		if err == nil || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return result, err
		}
		if try == dumpTries {
			// The change that interrupted it has a notification of its own.
			return result, nil
		}
	}
}

func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	address, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	if !ok || size == 0 {
		return netip.Prefix{}, false
	}
	if address = address.Unmap(); address.Is4() && size == 128 {
		bits -= 96
	}
	return netip.PrefixFrom(address, bits), true
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// Frames returns how many frames the interface has received, whatever they were, or zero
// if there is none with that index.
func Frames(index int) uint64 {
	l, err := netlink.LinkByIndex(index)
	if err != nil || l.Attrs().Statistics == nil {
		return 0
	}
	return l.Attrs().Statistics.RxPackets
}
