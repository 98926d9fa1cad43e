package netstate

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// serviceInterfaces are those on which programs put the addresses of Services, on every node:
// kube-proxy in IPVS mode, kube-router, PureLB, and the node-local DNS cache. They are not
// addresses that the node lives by, and no segment is there.
var serviceInterfaces = []string{"kube-ipvs0", "kube-dummy-if", "kube-lb0", "nodelocaldns"}

// vrf is the kernel's name for a VRF. An interface in one is no port: the VRF only chooses the
// routing table, and its frames are its own.
const vrf = "vrf"

// Interface is one network interface at the time of a Snapshot.
type Interface struct {
	// Index is the kernel's number; an interface that is deleted and made again under
	// its old name has another one.
	Index int
	Name  string
	// Kind is the kernel's name for the driver of a virtual interface ("veth",
	// "bridge", "bond", ...) and "device" for hardware.
	Kind string
	// MAC has six bytes on Ethernet.
	MAC net.HardwareAddr
	// Ports are the hardware addresses, sorted, of the ports of a bond, but for its own.
	Ports []net.HardwareAddr
	// Up reports whether the administrator wants the interface up, Running that it has a
	// carrier and is not dormant.
	Up, Running bool
	// Broadcast, NoARP and Loopback are the interface flags of these names.
	Broadcast, NoARP, Loopback bool
	// Master is the index of the bridge, bond or VRF that the interface is a port of, or 0, and
	// MasterKind the kernel's name for what that is.
	Master     int
	MasterKind string
	// Prefixes are the interface's addresses that can be used, with the length of their on-link
	// prefix, sorted. IPv6 link-local ones are apart: they say nothing about a segment.
	Prefixes []netip.Prefix
	// LinkLocal are the interface's IPv6 link-local addresses that can be used, by which peers
	// reach it where it has no IPv4.
	LinkLocal []netip.Prefix
	// Unusable are its other IPv6 addresses that cannot be used yet, or because another
	// machine has them.
	Unusable []netip.Prefix
	// Deprecated are those addresses that nothing new should use (RFC 4862 section 5.5.4), sorted.
	Deprecated []netip.Addr
	// Destinations are what the kernel sends out here, sorted.
	Destinations []plan.Destination
	// NoIPv4 and NoIPv6 report whether the kernel can send nothing of the family here.
	NoIPv4, NoIPv6 bool
}

// Snapshot is the state of all interfaces at one time. It is shared and never written to.
type Snapshot struct {
	// Interfaces are sorted by name.
	Interfaces []Interface
	// Gateways are the next hops of the main routing table, sorted, each once.
	Gateways []netip.Addr
	// Defaults are the default routes of the main routing table that have a next hop, those
	// that the kernel prefers first.
	Defaults []plan.DefaultRoute
}

// Carries says why the interface can carry no load balancer address whatever the
// address is, or returns nil.
func (i Interface) Carries() error {
	switch {
	case i.Loopback:
		return fmt.Errorf("%s is a loopback interface", i.Name)
	case i.Master != 0 && i.MasterKind != vrf:
		return fmt.Errorf("%s is a port of another interface; use that one", i.Name)
	case !i.Up:
		return fmt.Errorf("%s is down", i.Name)
	case !i.Running:
		return fmt.Errorf("%s has no carrier", i.Name)
	case i.NoARP:
		return fmt.Errorf("%s does no ARP", i.Name)
	case !i.Broadcast:
		return fmt.Errorf("%s is no broadcast interface", i.Name)
	case len(i.MAC) != 6:
		return fmt.Errorf("%s is no Ethernet interface", i.Name)
	}
	return nil
}

// podPrefixes begin the names that network plugins give to the node's ends of Pods' veth
// pairs where these are not ports of a bridge: the plugins ptp and others, Calico, Cilium.
var podPrefixes = []string{"veth", "cali", "lxc"}

// leadsToPod says whether the interface leads to a Pod.
func (i Interface) leadsToPod() bool {
	return i.Kind == "veth" && !i.hasGateway() && len(i.Prefixes) == 0 &&
		slices.ContainsFunc(podPrefixes, func(prefix string) bool { return strings.HasPrefix(i.Name, prefix) })
}

// hasGateway reports whether a default route leaves by the interface.
func (i Interface) hasGateway() bool {
	return slices.ContainsFunc(i.Destinations, func(d plan.Destination) bool { return d.Prefix.Bits() == 0 })
}

// isReported says whether the interface is worth telling the cluster about. Those of Pods
// come and go with every Pod, and nothing is ever announced there. One that is down is if
// it says where a segment or the rest of the world is.
func (i Interface) isReported() bool {
	switch {
	case i.leadsToPod() || slices.Contains(serviceInterfaces, i.Name):
		return false
	case i.Carries() == nil:
		return true
	}
	restored := i
	restored.Up, restored.Running = true, true
	return restored.Carries() == nil && (len(i.Prefixes) > 0 || i.hasGateway())
}

func (i Interface) equalInterface(j Interface) bool {
	return i.Index == j.Index && i.Name == j.Name && i.Kind == j.Kind && bytes.Equal(i.MAC, j.MAC) &&
		i.Up == j.Up && i.Running == j.Running && i.Broadcast == j.Broadcast && i.NoARP == j.NoARP &&
		i.Loopback == j.Loopback && i.Master == j.Master && i.MasterKind == j.MasterKind &&
		i.NoIPv4 == j.NoIPv4 && i.NoIPv6 == j.NoIPv6 && slices.Equal(i.Destinations, j.Destinations) &&
		slices.Equal(i.Prefixes, j.Prefixes) && slices.Equal(i.LinkLocal, j.LinkLocal) && slices.Equal(i.Unusable, j.Unusable) && slices.Equal(i.Deprecated, j.Deprecated) &&
		slices.EqualFunc(i.Ports, j.Ports, func(a, b net.HardwareAddr) bool { return bytes.Equal(a, b) })
}

// Equal reports whether s and t say the same.
func (s Snapshot) Equal(t Snapshot) bool {
	return slices.EqualFunc(s.Interfaces, t.Interfaces, Interface.equalInterface) && slices.Equal(s.Gateways, t.Gateways) &&
		slices.Equal(s.Defaults, t.Defaults)
}

// losesFamily reports whether an interface that can carry addresses sent a family before and no
// longer does.
func (s Snapshot) losesFamily(before Snapshot) bool {
	return slices.ContainsFunc(s.Interfaces, func(i Interface) bool {
		was, ok := before.Find(i.Name)
		return ok && i.Carries() == nil && (i.NoIPv4 && !was.NoIPv4 || i.NoIPv6 && !was.NoIPv6)
	})
}

// Find returns the interface called name.
func (s Snapshot) Find(name string) (Interface, bool) {
	i := slices.IndexFunc(s.Interfaces, func(i Interface) bool { return i.Name == name })
	if i < 0 {
		return Interface{}, false
	}
	return s.Interfaces[i], true
}

// Report returns what the cluster gets in reports: the interfaces that can carry addresses, or
// could if they were not down, sorted by name; of more than plan.MaxInterfaces, those with a
// default route come first, then those with an address. It is also what plan.SelectInterfaces
// chooses from here, so that node and cluster come to the same choice.
func (s Snapshot) Report() []plan.Interface {
	kept := slices.DeleteFunc(slices.Clone(s.Interfaces), func(i Interface) bool { return !i.isReported() })
	if len(kept) > plan.MaxInterfaces {
		rank := func(i Interface) int {
			switch {
			case i.hasGateway():
				return 0
			case len(i.Prefixes) > 0:
				return 1
			}
			return 2
		}
		slices.SortStableFunc(kept, func(a, b Interface) int { return rank(a) - rank(b) })
		kept = kept[:plan.MaxInterfaces]
		slices.SortFunc(kept, func(a, b Interface) int { return strings.Compare(a.Name, b.Name) })
	}
	out := make([]plan.Interface, 0, len(kept))
	for _, i := range kept {
		out = append(out, i.Report())
	}
	return out
}

// Report returns what the cluster gets in reports of the interface.
func (i Interface) Report() plan.Interface {
	// A link-local address is kept in any case: peers may reach the node by nothing else.
	local := i.LinkLocal[:min(len(i.LinkLocal), 1)]
	prefixes := slices.Concat(i.Prefixes[:min(len(i.Prefixes), plan.MaxPrefixes-len(local))], local)
	out := plan.Interface{
		Name: i.Name, MAC: i.MAC.String(), Prefixes: prefixes, Destinations: i.Destinations,
		NoIPv4: i.NoIPv4, NoIPv6: i.NoIPv6, Down: i.Carries() != nil,
	}
	for _, mac := range i.Ports {
		out.Ports = append(out.Ports, mac.String())
	}
	return out
}

// Deprecated returns the addresses that nothing new should use.
func (s Snapshot) Deprecated() []netip.Addr {
	var out []netip.Addr
	for _, i := range s.Interfaces {
		out = append(out, i.Deprecated...)
	}
	return out
}

// Own is the set of addresses that the node must never answer for as a load balancer,
// each with a phrase that names what it belongs to.
type Own map[netip.Addr]string

// Own returns the node's own addresses and its gateways.
func (s Snapshot) Own() Own {
	own := make(Own)
	for _, gateway := range s.Gateways {
		own[gateway.WithZone("")] = "a gateway of this node"
	}
	for _, i := range s.Interfaces {
		if slices.Contains(serviceInterfaces, i.Name) {
			continue
		}
		for _, prefix := range slices.Concat(i.Prefixes, i.Unusable) {
			own[prefix.Addr()] = "this node's own address on " + i.Name
		}
	}
	return own
}
