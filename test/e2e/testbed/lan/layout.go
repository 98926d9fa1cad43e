// Package lan lays out the testbed's network: which hosts there are, their addresses
// and routes, and the commands that build it. The layout is pure; Build and Remove
// touch the system, and only inside network namespaces of the testbed's own.
package lan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
)

// MaxNodes is how many nodes the LAN's IPv4 prefix has room for.
const MaxNodes = 200

// Pair is an address of each family.
type Pair struct{ V4, V6 netip.Addr }

// Host is one machine of the testbed: a network namespace with ports on the LAN, on
// the management network, or on both.
type Host struct {
	// Name is also the name of the host's port on the bridges.
	Name  string
	NetNS string
	// LAN is zero for a host that is not on the LAN, Mgmt for one not on the
	// management network.
	LAN, Mgmt Pair
}

// Primary returns the addresses that the cluster's own traffic uses.
func (h Host) Primary() Pair {
	if h.Mgmt.V4.IsValid() {
		return h.Mgmt
	}
	return h.LAN
}

// Node is a host that Pods run on.
type Node struct {
	Host
	// PodV4 and PodV6 are the node's share of the Pod network. Their first address is
	// the node's.
	PodV4, PodV6 netip.Prefix
}

// Layout is the whole network of one testbed.
type Layout struct {
	ID string
	// LAN is the namespace of the switch that carries the addresses, Mgmt that of the
	// management switch or "".
	LAN, Mgmt         string
	Client, FRR, BIRD Host
	ControlPlane      Host
	Nodes             []Node
	PoolV4, PoolV6    netip.Prefix
	// RoutedV4 and RoutedV6 are for addresses that routers are told of: they are on no wire.
	RoutedV4, RoutedV6   netip.Prefix
	ServiceV4, ServiceV6 netip.Prefix
	ClusterV4            netip.Prefix
	ClusterV6            netip.Prefix
}

// ID derives a testbed's name from its directory, so that one whose files are gone can
// still be removed.
func ID(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:3])
}

// Prefix begins the name of every network namespace of testbed id.
func Prefix(id string) string { return "tb-" + id + "-" }

// New lays out a testbed. With separate management, traffic of the API server, of the
// control channel and between Pods leaves the LAN alone.
func New(id string, nodes int, separate bool) (Layout, error) {
	if nodes < 1 || nodes > MaxNodes {
		return Layout{}, fmt.Errorf("a testbed has 1 to %d nodes, not %d", MaxNodes, nodes)
	}
	l := Layout{
		ID:        id,
		LAN:       Prefix(id) + "lan",
		PoolV4:    netip.MustParsePrefix("198.18.0.0/20"),
		PoolV6:    netip.MustParsePrefix("2001:db8:5018::/64"),
		RoutedV4:  netip.MustParsePrefix("198.18.32.0/24"),
		RoutedV6:  netip.MustParsePrefix("2001:db8:5032::/64"),
		ServiceV4: netip.MustParsePrefix("10.96.0.0/16"),
		ServiceV6: netip.MustParsePrefix("fd00:96::/112"),
		ClusterV4: netip.MustParsePrefix("10.128.0.0/9"),
		ClusterV6: netip.MustParsePrefix("fd00:128::/48"),
	}
	if separate {
		l.Mgmt = Prefix(id) + "mgmt"
	}
	l.FRR = l.host("frr", 1, true, false)
	l.Client = l.host("client", 2, true, false)
	l.BIRD = l.host("bird", 3, true, false)
	l.ControlPlane = l.host("cp", 4, !separate, separate)
	for i := 1; i <= nodes; i++ {
		l.Nodes = append(l.Nodes, Node{
			Host:  l.host(fmt.Sprintf("node%d", i), byte(10+i), true, separate),
			PodV4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 128, byte(i), 0}), 24),
			PodV6: netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 0x01, 0x28, 0, 0, 0, byte(i)}), 64),
		})
	}
	return l, nil
}

func (l Layout) host(name string, number byte, lan, mgmt bool) Host {
	h := Host{Name: name, NetNS: Prefix(l.ID) + name}
	if lan {
		h.LAN = Pair{
			V4: netip.AddrFrom4([4]byte{172, 30, 0, number}),
			V6: netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x30, 15: number}),
		}
	}
	if mgmt {
		h.Mgmt = Pair{
			V4: netip.AddrFrom4([4]byte{172, 31, 0, number}),
			V6: netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x31, 15: number}),
		}
	}
	return h
}

// Segment returns the networks of the LAN.
func (l Layout) Segment() (v4, v6 netip.Prefix) {
	v4, _ = l.FRR.LAN.V4.Prefix(24)
	v6, _ = l.FRR.LAN.V6.Prefix(64)
	return v4, v6
}

// Hosts returns every host in a fixed order.
func (l Layout) Hosts() []Host {
	hosts := []Host{l.FRR, l.BIRD, l.Client, l.ControlPlane}
	for _, n := range l.Nodes {
		hosts = append(hosts, n.Host)
	}
	return hosts
}

// Node returns the node called name.
func (l Layout) Node(name string) (Node, bool) {
	for _, n := range l.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// NodeNames returns the nodes' names in order.
func (l Layout) NodeNames() []string {
	names := make([]string, len(l.Nodes))
	for i, n := range l.Nodes {
		names[i] = n.Name
	}
	return names
}
