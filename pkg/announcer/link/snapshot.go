package link

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// ipvsInterface is where kube-proxy in IPVS mode puts the addresses of every Service, on
// every node. They are not addresses that the node lives by.
const ipvsInterface = "kube-ipvs0"

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
	// Up says that the administrator wants the interface up, Running that it has a
	// carrier and is not dormant.
	Up, Running bool
	// Broadcast, NoARP and Loopback are the interface flags of these names.
	Broadcast, NoARP, Loopback bool
	// Master is the index of the bridge, bond or VRF that the interface is a port of, or 0.
	Master int
	// Prefixes are the interface's addresses with the length of their on-link prefix,
	// sorted. IPv6 link-local ones are apart: they say nothing about a segment.
	Prefixes []netip.Prefix
	// LinkLocal are the interface's IPv6 link-local addresses, by which peers reach it
	// where it has no IPv4.
	LinkLocal []netip.Prefix
	// Default says that a default route of either family leaves here.
	Default bool
}

// Snapshot is the state of all interfaces at one time. It is shared and never written to.
type Snapshot struct {
	// Interfaces are sorted by name.
	Interfaces []Interface
	// Gateways are the next hops of the main routing table, sorted, each once.
	Gateways []netip.Addr
	// Defaults are the default routes of the main routing table that have a next hop, those
	// that the kernel prefers first.
	Defaults []announcement.DefaultRoute
}

// Carries says why the interface can carry no load balancer address whatever the
// address is, or returns nil.
func (i Interface) Carries() error {
	switch {
	case i.Loopback:
		return fmt.Errorf("%s is a loopback interface", i.Name)
	case i.Master != 0:
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

// pod says whether the interface leads to a Pod.
func (i Interface) pod() bool {
	return i.Kind == "veth" && !i.Default && len(i.Prefixes) == 0 &&
		slices.ContainsFunc(podPrefixes, func(prefix string) bool { return strings.HasPrefix(i.Name, prefix) })
}

// reported says whether the interface is worth telling the cluster about. Those of Pods
// come and go with every Pod, and nothing is ever announced there. One that is down is if
// it says where a segment or the rest of the world is.
func (i Interface) reported() bool {
	switch {
	case i.pod():
		return false
	case i.Carries() == nil:
		return true
	}
	restored := i
	restored.Up, restored.Running = true, true
	return restored.Carries() == nil && (len(i.Prefixes) > 0 || i.Default)
}

func (i Interface) equal(j Interface) bool {
	return i.Index == j.Index && i.Name == j.Name && i.Kind == j.Kind && bytes.Equal(i.MAC, j.MAC) &&
		i.Up == j.Up && i.Running == j.Running && i.Broadcast == j.Broadcast && i.NoARP == j.NoARP &&
		i.Loopback == j.Loopback && i.Master == j.Master && i.Default == j.Default &&
		slices.Equal(i.Prefixes, j.Prefixes) && slices.Equal(i.LinkLocal, j.LinkLocal)
}

// Equal reports whether s and t say the same.
func (s Snapshot) Equal(t Snapshot) bool {
	return slices.EqualFunc(s.Interfaces, t.Interfaces, Interface.equal) && slices.Equal(s.Gateways, t.Gateways) &&
		slices.Equal(s.Defaults, t.Defaults)
}

// Find returns the interface called name.
func (s Snapshot) Find(name string) (Interface, bool) {
	i := slices.IndexFunc(s.Interfaces, func(i Interface) bool { return i.Name == name })
	if i < 0 {
		return Interface{}, false
	}
	return s.Interfaces[i], true
}

// Report returns what the cluster is told: the interfaces that can carry addresses, or
// could if they were not down, sorted by name. It is also what announcement.SelectInterfaces chooses from here, so
// that node and cluster come to the same choice.
func (s Snapshot) Report() []announcement.Interface {
	var out []announcement.Interface
	for _, i := range s.Interfaces {
		if i.reported() {
			out = append(out, i.Report())
		}
	}
	return out
}

// Report returns the interface as the cluster is told of it.
func (i Interface) Report() announcement.Interface {
	return announcement.Interface{
		Name: i.Name, MAC: i.MAC.String(), Prefixes: slices.Concat(i.Prefixes, i.LinkLocal), Default: i.Default, Down: i.Carries() != nil,
	}
}

// Own is the set of addresses that the node must never answer for as a load balancer,
// each with a phrase that says whose it is.
type Own map[netip.Addr]string

// Own returns the node's own addresses and its gateways.
func (s Snapshot) Own() Own {
	own := make(Own)
	for _, gateway := range s.Gateways {
		own[gateway.WithZone("")] = "a gateway of this node"
	}
	for _, i := range s.Interfaces {
		if i.Name == ipvsInterface {
			continue
		}
		for _, prefix := range i.Prefixes {
			own[prefix.Addr()] = "this node's own address on " + i.Name
		}
	}
	return own
}
