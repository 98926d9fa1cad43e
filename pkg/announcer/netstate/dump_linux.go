package netstate

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// dumpTries is how often a dump that the kernel calls inconsistent is repeated before
// the next notification is left to mend it.
const dumpTries = 3

// classes says which of the three tables are read.
type classes struct{ links, addresses, routes bool }

func (c classes) hasAny() bool { return c.links || c.addresses || c.routes }

func (c classes) orClasses(d classes) classes {
	return classes{c.links || d.links, c.addresses || d.addresses, c.routes || d.routes}
}

// tables is the kernel's state in its own three parts, each read again only when a
// notification of that part has come.
type tables struct {
	links []Interface
	// vrfs are the routing tables of VRFs by the index of the VRF.
	vrfs      map[int]int
	addresses map[int]addresses
	routes    routes
}

// addresses are those of one interface, sorted.
type addresses struct {
	usable, linkLocal, unusable []netip.Prefix
	deprecated                  []netip.Addr
}

// readTables brings the parts in which up to date.
func (t *tables) readTables(handle *netlink.Handle, which classes) error {
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
	links, err := dumpTable(handle.LinkList)
	if err != nil {
		return err
	}
	t.links, t.vrfs = t.links[:0:0], map[int]int{}
	kinds, ports := map[int]string{}, map[int][]net.HardwareAddr{}
	for _, l := range links {
		a := l.Attrs()
		kinds[a.Index] = l.Type()
		if vrf, ok := l.(*netlink.Vrf); ok {
			t.vrfs[a.Index] = int(vrf.Table)
		}
		if a.MasterIndex != 0 {
			ports[a.MasterIndex] = append(ports[a.MasterIndex], a.HardwareAddr)
		}
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
	for n := range t.links {
		i := &t.links[n]
		i.MasterKind = kinds[i.Master]
		i.Ports = portsOf(*i, ports[i.Index])
	}
	return nil
}

// portsOf returns the hardware addresses of the ports of a bond, sorted, without its own. Those
// of a bridge are not the node's: most lead to Pods.
func portsOf(i Interface, all []net.HardwareAddr) []net.HardwareAddr {
	if i.Kind != "bond" && i.Kind != "team" {
		return nil
	}
	others := slices.DeleteFunc(slices.Clone(all), func(mac net.HardwareAddr) bool { return len(mac) != 6 || bytes.Equal(mac, i.MAC) })
	slices.SortFunc(others, func(a, b net.HardwareAddr) int { return bytes.Compare(a, b) })
	others = slices.CompactFunc(others, func(a, b net.HardwareAddr) bool { return bytes.Equal(a, b) })
	return others[:min(len(others), plan.MaxPorts)]
}

func (t *tables) readAddresses(handle *netlink.Handle) error {
	list, err := dumpTable(func() ([]netlink.Addr, error) { return handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	t.addresses = make(map[int]addresses)
	for _, a := range list {
		if prefix, ok := toPrefix(a.IPNet); ok {
			t.addresses[a.LinkIndex] = t.addresses[a.LinkIndex].withAddress(prefix, a.Flags)
		}
	}
	for _, of := range t.addresses {
		for _, prefixes := range [][]netip.Prefix{of.usable, of.linkLocal, of.unusable} {
			slices.SortFunc(prefixes, comparePrefix)
		}
		slices.SortFunc(of.deprecated, netip.Addr.Compare)
	}
	return nil
}

// withAddress adds an address with the kernel's flags. One of IPv6 cannot be used while the kernel
// still looks whether another machine has it, unless it is optimistic, nor if one has. A
// link-local one of IPv4 is nothing that a node lives by.
func (a addresses) withAddress(prefix netip.Prefix, flags int) addresses {
	local := prefix.Addr().IsLinkLocalUnicast()
	unusable := flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0 || flags&unix.IFA_F_DADFAILED != 0
	if flags&unix.IFA_F_DEPRECATED != 0 {
		a.deprecated = append(a.deprecated, prefix.Addr())
	}
	switch {
	case prefix.Addr().Is4() && !local:
		a.usable = append(a.usable, prefix)
	case prefix.Addr().Is4():
	case unusable && !local:
		a.unusable = append(a.unusable, prefix)
	case unusable:
	case local:
		a.linkLocal = append(a.linkLocal, prefix)
	default:
		a.usable = append(a.usable, prefix)
	}
	return a
}

// readRoutes keeps of the routing tables what is needed, not the tables: a router may hold a
// million routes.
func (t *tables) readRoutes(handle *netlink.Handle) error {
	found, err := dumpTable(func() (routes, error) { return listRoutes(handle, t.vrfs) })
	if err != nil {
		return err
	}
	t.routes = found
	return nil
}

func listRoutes(handle *netlink.Handle, vrfs map[int]int) (routes, error) {
	found := newRoutes(vrfs)
	everyTable := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	err := handle.RouteListFilteredIter(netlink.FAMILY_ALL, everyTable, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		if r.Type != unix.RTN_UNICAST || r.Table == unix.RT_TABLE_LOCAL || r.Tos != 0 {
			return true
		}
		prefix, ok := toPrefix(r.Dst)
		if !ok {
			prefix = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			if r.Family == netlink.FAMILY_V4 {
				prefix = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			}
		}
		found.addRoute(r.Table, prefix.Masked(), r.Priority, hopsOf(r))
		return true
	})
	return found, err
}

// hopsOf returns where a route sends packets, of several ways those that the kernel may use.
func hopsOf(r netlink.Route) []hop {
	ways := r.MultiPath
	if len(ways) == 0 {
		ways = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via, Flags: r.Flags}}
	}
	var hops []hop
	for _, way := range ways {
		if way.LinkIndex == 0 || way.Flags&unix.RTNH_F_DEAD != 0 {
			continue
		}
		gateway := way.Gw
		if via, ok := way.Via.(*netlink.Via); ok {
			gateway = via.Addr
		}
		address, _ := netip.AddrFromSlice(gateway)
		hops = append(hops, hop{index: way.LinkIndex, gateway: address.Unmap(), declared: way.Flags&unix.RTNH_F_ONLINK != 0})
	}
	return hops
}

// snapshotOf puts the parts together.
func (t *tables) snapshotOf() Snapshot {
	s := Snapshot{Interfaces: slices.Clone(t.links), Gateways: t.routes.sortedGateways()}
	destinations := t.routes.destinations()
	for n := range s.Interfaces {
		i := &s.Interfaces[n]
		of := t.addresses[i.Index]
		i.Prefixes, i.LinkLocal, i.Unusable, i.Deprecated = of.usable, of.linkLocal, of.unusable, of.deprecated
		i.Destinations = destinations[i.Index]
		i.NoIPv4, i.NoIPv6 = !t.routes.sendsIPv4(i.Index, of), !t.routes.sendsIPv6(i.Index, of)
	}
	for _, r := range t.routes.defaults() {
		i := slices.IndexFunc(t.links, func(i Interface) bool { return i.Index == r.index })
		if i < 0 { // it came after the links were read, which are read again then
			continue
		}
		route := plan.DefaultRoute{Gateway: r.gateway, Interface: t.links[i].Name}
		if r.gateway.IsLinkLocalUnicast() && r.gateway.Is6() {
			route.Gateway = r.gateway.WithZone(route.Interface)
		}
		s.Defaults = append(s.Defaults, route)
	}
	return s
}

// dumpTable repeats a listing that was interrupted by a change.
func dumpTable[T any](list func() (T, error)) (T, error) {
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
