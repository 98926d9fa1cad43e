package loadbalancer

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/ipam"
)

// proxyAbove is how many addresses of one family a machine may have that is not a proxy.
const proxyAbove = 3

// Machine is what has an address beside Services: one that is none of the cluster's nodes, or a
// node, a gateway or a router that is known to.
type Machine struct {
	// Owner says what it is, where that is known without its having been heard: "node node1".
	// All else is zero then.
	Owner string
	// MAC is its hardware address, and Interface and Node where it was heard: by the first
	// of the nodes that did.
	MAC, Interface, Node string
	// Nodes is how many heard it.
	Nodes int
}

// String names the machine for people.
func (m Machine) String() string {
	if m.Owner != "" {
		return m.Owner
	}
	return fmt.Sprintf("%s, heard on %s of node %s", m.MAC, m.Interface, m.Node)
}

// usageText tells people what m has to do with an address.
func (m Machine) usageText() string {
	if m.Owner != "" {
		return "it is an address of " + m.Owner
	}
	return "another machine on the network uses it, " + m.String()
}

// collectMachines collects which machine has which addresses, nodes and proxies aside.
func (b *Balancer) collectMachines() {
	c := &b.conflicts
	if c.hardware == nil {
		c.hardware = b.nodeHardware()
	}
	c.owned = b.ownedAddresses()
	found := map[netip.Addr]map[string]Machine{}
	for _, name := range b.connectedFinders() {
		for _, f := range b.announcer[name].report.Findings {
			if c.hardware[f.MAC] || b.addresses.PoolOf(f.Address) == "" {
				continue
			}
			if found[f.Address] == nil {
				found[f.Address] = map[string]Machine{}
			}
			m, ok := found[f.Address][f.MAC]
			if !ok {
				m = Machine{MAC: f.MAC, Interface: f.Interface, Node: name}
			}
			m.Nodes++
			found[f.Address][f.MAC] = m
		}
	}
	c.found = map[netip.Addr][]Machine{}
	for address, machines := range found {
		for _, m := range machines {
			c.found[address] = append(c.found[address], m)
		}
		slices.SortFunc(c.found[address], func(m, n Machine) int {
			return cmp.Or(cmp.Compare(n.Nodes, m.Nodes), strings.Compare(m.MAC, n.MAC))
		})
	}
	b.findProxies()
}

// connectedFinders returns the connected nodes that found a machine, sorted.
func (b *Balancer) connectedFinders() []string {
	var out []string
	for name := range b.conflicts.finders {
		if _, ok := b.nodes[name]; ok && b.isConnected(name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// nodeHardware returns the hardware addresses of the cluster's nodes.
func (b *Balancer) nodeHardware() map[string]bool {
	out := map[string]bool{}
	for _, known := range b.announcer {
		for _, i := range known.interfaces {
			out[i.MAC] = true
		}
	}
	return out
}

// findProxies tells of machines that have more addresses than one has: a router that does
// proxy ARP answers for all that is asked for, and would have the whole pool in quarantine.
func (b *Balancer) findProxies() {
	c := &b.conflicts
	before := c.proxies
	c.proxies = map[string]int{}
	type held struct {
		mac    string
		family ipam.Family
	}
	counts := map[held][]netip.Addr{}
	for address, machines := range c.found {
		for _, m := range machines {
			h := held{m.MAC, ipam.FamilyOf(address)}
			counts[h] = append(counts[h], address)
		}
	}
	for h, addresses := range counts {
		if len(addresses) > proxyAbove {
			c.proxies[h.mac] += len(addresses)
		}
	}
	for _, mac := range slices.Sorted(maps.Keys(c.proxies)) {
		if before[mac] == 0 {
			b.tellProxy(mac)
		}
	}
}

// userOf returns what has address beside Services, or would have: a node or router that is known
// to, else the machine that most nodes heard, proxies aside.
func (c *conflicts) userOf(address netip.Addr) (Machine, bool) {
	if m, ok := c.owned[address]; ok {
		return m, true
	}
	return c.strangerAt(address)
}

// usedAddresses returns the addresses that user may return something for, sorted: those of the cluster
// before those of strangers.
func (c *conflicts) usedAddresses() []netip.Addr {
	out := sortedAddresses(c.owned)
	for _, address := range sortedAddresses(c.found) {
		if _, ok := c.owned[address]; !ok {
			out = append(out, address)
		}
	}
	return out
}

// strangerAt returns the machine, no proxy, that uses address and that most nodes heard.
func (c *conflicts) strangerAt(address netip.Addr) (Machine, bool) {
	for _, m := range c.found[address] {
		if c.proxies[m.MAC] == 0 {
			return m, true
		}
	}
	return Machine{}, false
}
