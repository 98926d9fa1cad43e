package netstate_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

func good(name string) netstate.Interface {
	return netstate.Interface{
		Index: 2, Name: name, Kind: "device", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1},
		Up: true, Running: true, Broadcast: true,
		Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")},
	}
}

// byDefault are the destinations of an interface by which the IPv4 default route leaves.
var byDefault = []plan.Destination{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}}

func TestCarries(t *testing.T) {
	require.NoError(t, good("eth0").Carries())
	for why, spoil := range map[string]func(*netstate.Interface){
		"eth0 is a loopback interface":                      func(i *netstate.Interface) { i.Loopback = true },
		"eth0 is a port of another interface; use that one": func(i *netstate.Interface) { i.Master = 7 },
		"eth0 is down":                   func(i *netstate.Interface) { i.Up, i.Running = false, false },
		"eth0 has no carrier":            func(i *netstate.Interface) { i.Running = false },
		"eth0 does no ARP":               func(i *netstate.Interface) { i.NoARP = true },
		"eth0 is no broadcast interface": func(i *netstate.Interface) { i.Broadcast = false },
		"eth0 is no Ethernet interface":  func(i *netstate.Interface) { i.MAC = make(net.HardwareAddr, 20) },
	} {
		i := good("eth0")
		spoil(&i)
		require.EqualError(t, i.Carries(), why)
	}
}

// TestReport: what leads to Pods is left out, and what is down but for what it says about
// segments.
func TestReport(t *testing.T) {
	pod := good("cali1")
	pod.Kind, pod.Prefixes = "veth", nil
	uplink := pod
	uplink.Name, uplink.Destinations = "veth0", byDefault
	bare := pod
	bare.Name = "eth0"
	spare := good("storage0")
	spare.Prefixes = nil
	down := good("eth9")
	down.Up, down.Running = false, false
	unplugged := spare
	unplugged.Name, unplugged.Running = "eth8", false
	lost := unplugged
	lost.Name, lost.Destinations = "eth7", byDefault
	port, tunnel := good("eth6"), good("wg0")
	port.Master, tunnel.NoARP = 3, true
	s := netstate.Snapshot{Interfaces: []netstate.Interface{pod, bare, port, lost, unplugged, down, spare, tunnel, uplink}}
	got := map[string]bool{}
	for _, i := range s.Report() {
		got[i.Name] = i.Down
	}
	require.Equal(t, map[string]bool{"eth0": false, "eth7": true, "eth9": true, "storage0": false, "veth0": false}, got)
}

// TestReportTellsLinkLocal: peers are reached by these addresses, and a Pod's interface is
// none for having one.
func TestReportTellsLinkLocal(t *testing.T) {
	eth0, pod := good("eth0"), good("cali1")
	eth0.LinkLocal = []netip.Prefix{netip.MustParsePrefix("fe80::1/64")}
	pod.Kind, pod.Prefixes, pod.LinkLocal = "veth", nil, eth0.LinkLocal
	report := netstate.Snapshot{Interfaces: []netstate.Interface{pod, eth0}}.Report()
	require.Len(t, report, 1)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24"), netip.MustParsePrefix("fe80::1/64")}, report[0].Prefixes)
}

// TestOwnIgnoresIPVS: kube-proxy in IPVS mode binds every Service address on every node.
func TestOwnIgnoresIPVS(t *testing.T) {
	ipvs := good("kube-ipvs0")
	ipvs.Prefixes = []netip.Prefix{netip.MustParsePrefix("192.0.2.200/32")}
	own := netstate.Snapshot{
		Interfaces: []netstate.Interface{good("eth0"), ipvs},
		Gateways:   []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1")},
	}.Own()
	require.Equal(t, netstate.Own{
		netip.MustParseAddr("192.0.2.10"): "this node's own address on eth0",
		netip.MustParseAddr("192.0.2.1"):  "a gateway of this node",
		netip.MustParseAddr("fe80::1"):    "a gateway of this node",
	}, own)
}
