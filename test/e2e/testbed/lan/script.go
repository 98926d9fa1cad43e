package lan

import (
	"fmt"
	"net/netip"
	"strings"
)

// Script is a list of `ip` commands to run inside one network namespace.
type Script struct {
	NetNS    string
	Commands string
}

// Scripts returns the commands that build the network out of namespaces that exist and
// are empty, in the order in which they have to run.
func (l Layout) Scripts() []Script {
	scripts := []Script{l.bridge(l.LAN, func(h Host) (string, bool) { return "eth0", h.LAN.V4.IsValid() })}
	if l.Mgmt != "" {
		scripts = append(scripts, l.bridge(l.Mgmt, func(h Host) (string, bool) {
			return h.mgmtLink(), h.Mgmt.V4.IsValid()
		}))
	}
	for _, h := range []Host{l.FRR, l.BIRD, l.Client} {
		scripts = append(scripts, Script{h.NetNS, l.links(h) + l.poolRoutes()})
	}
	scripts = append(scripts, Script{l.ControlPlane.NetNS, l.links(l.ControlPlane)})
	for _, n := range l.Nodes {
		scripts = append(scripts, l.Restore(n))
	}
	return scripts
}

// mgmtLink is the name of the host's interface on the management network.
func (h Host) mgmtLink() string {
	if h.LAN.V4.IsValid() {
		return "eth1"
	}
	return "eth0"
}

// bridge makes a switch with one port, named like the host, for each host that link
// accepts; link names the host's end of it. Like a plain switch it forwards multicast
// to every port.
func (l Layout) bridge(ns string, link func(Host) (string, bool)) Script {
	var b strings.Builder
	b.WriteString("link add br0 type bridge stp_state 0 mcast_snooping 0\nlink set br0 up\n")
	for _, h := range l.Hosts() {
		if name, ok := link(h); ok {
			b.WriteString(cable(h, name))
		}
	}
	return Script{ns, b.String()}
}

// cable connects the host's interface called name to a switch.
func cable(h Host, name string) string {
	return fmt.Sprintf("link add %s type veth peer name %s netns %s\nlink set %s master br0 up\n", h.Name, name, h.NetNS, h.Name)
}

// Rewire returns the commands that connect a node to the LAN whose interface is gone.
func (l Layout) Rewire(n Node) Script { return Script{l.LAN, cable(n.Host, "eth0")} }

// Restore returns the commands that give a node's interfaces back what they lose when they
// are set down.
func (l Layout) Restore(n Node) Script { return Script{n.NetNS, l.links(n.Host) + l.podRoutes(n)} }

func (l Layout) links(h Host) string {
	var b strings.Builder
	if h.LAN.V4.IsValid() {
		b.WriteString(link("eth0", h.LAN))
		if h.Name != l.FRR.Name {
			fmt.Fprintf(&b, "route replace default via %s\nroute replace ::/0 via %s\n", l.FRR.LAN.V4, l.FRR.LAN.V6)
		}
	}
	if h.Mgmt.V4.IsValid() {
		b.WriteString(link(h.mgmtLink(), h.Mgmt))
	}
	return b.String()
}

func link(name string, addresses Pair) string {
	return fmt.Sprintf("addr replace %s/24 dev %s\naddr replace %s/64 dev %s nodad\nlink set %s up\n",
		addresses.V4, name, addresses.V6, name, name)
}

// poolRoutes say that load balancer addresses are on the wire itself.
func (l Layout) poolRoutes() string {
	return fmt.Sprintf("route replace %s dev eth0\nroute replace %s dev eth0\n", l.PoolV4, l.PoolV6)
}

// podRoutes lead to the other nodes' Pods, as a network plugin's would.
func (l Layout) podRoutes(self Node) string {
	var b strings.Builder
	for _, n := range l.Nodes {
		if n.Name == self.Name {
			continue
		}
		fmt.Fprintf(&b, "route replace %s via %s\nroute replace %s via %s\n", n.PodV4, n.Primary().V4, n.PodV6, n.Primary().V6)
	}
	return b.String()
}

// PodScript returns the commands, run inside the node's namespace, that connect a Pod's
// namespace by the interface called port, and those to run inside the Pod's.
func (n Node) PodScript(podNS, port string, pod Pair) []Script {
	gateway := Pair{V4: n.PodV4.Addr().Next(), V6: n.PodV6.Addr().Next()}
	host := fmt.Sprintf("link add %[1]s type veth peer name eth0 netns %[2]s\n"+
		"addr replace %[3]s/32 dev %[1]s\naddr replace %[4]s/128 dev %[1]s nodad\nlink set %[1]s up\n"+
		"route replace %[5]s/32 dev %[1]s\nroute replace %[6]s/128 dev %[1]s\n",
		port, podNS, gateway.V4, gateway.V6, pod.V4, pod.V6)
	inside := fmt.Sprintf("addr replace %s/32 dev eth0\naddr replace %s/128 dev eth0 nodad\nlink set eth0 up\n"+
		"route replace %[3]s/32 dev eth0\nroute replace default via %[3]s\n"+
		"route replace %[4]s/128 dev eth0\nroute replace ::/0 via %[4]s\n",
		pod.V4, pod.V6, gateway.V4, gateway.V6)
	return []Script{{n.NetNS, host}, {podNS, inside}}
}

// PodAddress returns the node's Pod addresses with that number, which is 2 to 254.
func (n Node) PodAddress(number byte) Pair {
	v4, v6 := n.PodV4.Addr().As4(), n.PodV6.Addr().As16()
	v4[3], v6[15] = number, number
	return Pair{V4: netip.AddrFrom4(v4), V6: netip.AddrFrom16(v6)}
}
