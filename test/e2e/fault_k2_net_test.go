//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

const (
	// lossAllowed bounds how long the client gets no connection when an owner loses its address,
	// which it notices itself. 42 s was seen; the machine may have other work.
	lossAllowed = 5 * time.Second
	// dialPatience bounds one attempt of the client to connect.
	dialPatience = 200 * time.Millisecond
)

// TestFault_K2_1_OwnerLosesItsAddress takes from a node that answers what it sends a family by,
// while the API server stays reachable by another network. On the same testbed follow the rows
// about which interface answers, K2.5 and K2.4.
func TestFault_K2_1_OwnerLosesItsAddress(t *testing.T) {
	m := &matrix{lab: up(t, testbed.Options{Nodes: 3, Proxy: "nftables", Mgmt: "separate"}), separate: true}
	for _, name := range []string{"a", "b", "c"} {
		m.create(name, of(dual, false))
		m.services = append(m.services, combination{name: name, text: name, addresses: m.addresses(name, 2)})
	}
	m.each("one node answers", (*matrix).answered)
	for _, node := range m.nodes() {
		// The default route leads over the LAN, and goes with the address.
		require.NoError(t, netns.Batch(t.Context(), m.c.NetNS(node), fmt.Sprintf("route replace %s dev eth1\n", m.c.Layout().ServiceV4)))
	}
	for _, loss := range []loss{
		{"IPv4", withoutIPv4, netip.Addr.Is4},
		{"IPv6", withoutIPv6, netip.Addr.Is6},
		{"IPv6 and its link-local address", func(has lan.Pair) string { return withoutIPv6(has) + withoutLinkLocal(has) }, netip.Addr.Is6},
		{"all", func(has lan.Pair) string { return withoutIPv4(has) + withoutIPv6(has) + withoutLinkLocal(has) }, netip.Addr.IsValid},
		{"only its link-local address", withoutLinkLocal, func(netip.Addr) bool { return false }},
	} {
		t.Run(loss.name, func(t *testing.T) { m.with(t).ownerLoses(loss) })
	}
	t.Run("K2.5 two interfaces in one subnet", func(t *testing.T) { m.with(t).twoPortsInOneSubnet() })
	t.Run("K2.4 a segment that one node does not have", func(t *testing.T) { m.with(t).segmentOfSome() })
}

// loss is what a node loses of its addresses on the LAN.
type loss struct {
	name string
	// commands take it away.
	commands func(has lan.Pair) string
	// lost reports whether the node can no longer answer for an address.
	lost func(netip.Addr) bool
}

func withoutIPv4(has lan.Pair) string  { return fmt.Sprintf("addr del %s/24 dev eth0\n", has.V4) }
func withoutIPv6(has lan.Pair) string  { return fmt.Sprintf("addr del %s/64 dev eth0\n", has.V6) }
func withoutLinkLocal(lan.Pair) string { return "addr flush dev eth0 scope link\n" }

// ownerLoses checks that others answer for what a node cannot send for any more, and for
// nothing else, as long as that lasts and afterwards.
func (m *matrix) ownerLoses(loss loss) {
	m.Helper()
	before := m.owners()
	node := before[m.services[0].addresses[0]]
	if loss.lost(m.services[0].addresses[1]) {
		node = before[m.services[0].addresses[1]]
	}
	has, local := m.c.Address(node), m.linkLocal(node)
	gaps := m.gaps(slices.Collect(maps.Keys(before)))
	time.Sleep(time.Second)
	require.NoError(m, netns.Batch(m.Context(), m.c.NetNS(node), loss.commands(has)))
	between := m.losesOnly(node, before, loss.lost)
	for until := time.Now().Add(lasting(time.Minute, 10*time.Second)); time.Now().Before(until); {
		m.unmoved(between)
	}
	require.NoError(m, m.c.Restore(m.Context(), node))
	require.NoError(m, netns.Batch(m.Context(), m.c.NetNS(node), fmt.Sprintf("addr replace %s/64 dev eth0 nodad\n", local)))
	for until := time.Now().Add(lasting(time.Minute, 5*time.Second)); time.Now().Before(until); {
		m.unmoved(between)
	}
	for address, gap := range gaps() {
		m.Logf("%s of %s, then of %s: no connection for %s", address, before[address], between[address], gap.Round(time.Millisecond))
		require.Less(m, gap, lossAllowed)
	}
	m.each("as before", (*matrix).answered)
	m.unmoved(between)
}

// losesOnly waits until a node answers for nothing any more that is lost, and returns which
// nodes answer then. All else stays where it was.
func (m *matrix) losesOnly(node string, before map[netip.Addr]string, lost func(netip.Addr) bool) map[netip.Addr]string {
	m.Helper()
	var between map[netip.Addr]string
	m.until(func() bool {
		between = m.owners()
		return !slices.ContainsFunc(ownedBy(between, node), lost)
	}, "%s still answers", node)
	for address, owner := range before {
		if owner != node || !lost(address) {
			require.Equal(m, owner, between[address], "%s moved for nothing", address)
		}
	}
	return between
}

// gaps has the client connect to addresses again and again; end returns how long it got no
// connection to each at the longest.
func (m *matrix) gaps(addresses []netip.Addr) (end func() map[netip.Addr]time.Duration) {
	ctx, stop := context.WithCancel(m.Context())
	dial := netns.Dialer(m.c.NetNS("client"))
	longest := make([]time.Duration, len(addresses))
	var running sync.WaitGroup
	for i, address := range addresses {
		running.Go(func() {
			for last := time.Now(); ctx.Err() == nil; time.Sleep(pause) {
				attempt, cancel := context.WithTimeout(ctx, dialPatience)
				conn, err := dial(attempt, "tcp", netip.AddrPortFrom(address, httpPort).String())
				cancel()
				longest[i] = max(longest[i], time.Since(last))
				if err == nil {
					last = time.Now()
					_ = conn.Close()
				}
			}
		})
	}
	return func() map[netip.Addr]time.Duration {
		stop()
		running.Wait()
		out := map[netip.Addr]time.Duration{}
		for i, address := range addresses {
			out[address] = longest[i]
		}
		return out
	}
}

// twoPortsInOneSubnet gives a node a second interface on the LAN, which drops what comes by the
// wrong one: for what only this node may answer there is one hardware address, and each
// connection comes about. When the first interface loses its IPv4 address the second one answers.
func (m *matrix) twoPortsInOneSubnet() {
	const node = "node2"
	v4, v6 := m.c.Layout().Segment()
	m.configure(m.poolsAnd(fmt.Sprintf("- {name: routes, addresses: [%s/28, %s/124], autoAssign: false, l2: [{}]}\n", plus(v4.Addr(), 192), plus(v6.Addr(), 0xc0)) +
		fmt.Sprintf("- {name: names, addresses: [%s/28, %s/124], autoAssign: false, l2: [{interface: '/eth[02]/'}]}\n", plus(v4.Addr(), 208), plus(v6.Addr(), 0xd0))))
	require.NoError(m, netns.Sysctl(m.c.NetNS(node), map[string]string{"ipv4/conf/all/rp_filter": "1"}))
	var addresses []netip.Addr
	for _, pool := range []string{"routes", "names"} {
		m.create(pool, from(pool, func(svc *corev1.Service) {
			of(dual, true)(svc)
			svc.Spec.Selector = map[string]string{"app": "web", "node": node}
		}))
		addresses = append(addresses, m.addresses(pool, 2)...)
	}
	check := func(ipv4Port string) {
		m.Helper()
		for _, address := range addresses {
			port := "eth0"
			if address.Is4() {
				port = ipv4Port
			}
			mac := m.portMAC(node, port)
			m.until(func() bool { return slices.Equal(m.addressOwners(address), []string{mac}) }, "%s of %s does not answer for %s", port, node, address)
			m.works(address)
			m.stays(address, mac)
			for range 20 {
				_, err := m.c.Curl(m.Context(), "http://"+net.JoinHostPort(address.String(), fmt.Sprint(httpPort))+"/")
				require.NoError(m, err, address)
			}
		}
	}
	check("eth0")
	before := m.owners()
	unplug := m.plug(node, "br0", netip.PrefixFrom(plus(v4.Addr(), 111), 24), netip.PrefixFrom(plus(v6.Addr(), 0x6f), 64))
	check("eth0")
	require.NoError(m, netns.Batch(m.Context(), m.c.NetNS(node), withoutIPv4(m.c.Address(node))))
	check("eth2")
	m.losesOnly(node, before, netip.Addr.Is4)
	unplug()
	require.NoError(m, m.c.Restore(m.Context(), node))
	check("eth0")
	m.delete("routes")
	m.delete("names")
}

// segmentOfSome gives a pool a segment that two nodes and the client have. The third would
// answer where its default route leads; all works because it does not.
func (m *matrix) segmentOfSome() {
	v4, v6 := netip.MustParseAddr("203.0.113.0"), netip.MustParseAddr("2001:db8:5113::")
	require.NoError(m, netns.Batch(m.Context(), m.c.Layout().LAN, "link add br1 type bridge stp_state 0 mcast_snooping 0\nlink set br1 up\n"))
	have := map[string]string{}
	for i, host := range []string{"client", "node1", "node2"} {
		m.plug(host, "br1", netip.PrefixFrom(plus(v4, 2+i), 24), netip.PrefixFrom(plus(v6, 2+i), 64))
		have[m.portMAC(host, "eth2")] = host
	}
	m.configure(m.poolsAnd(fmt.Sprintf("- {name: segment, addresses: [%s/27, %s/123], autoAssign: false, l2: [{}]}\n", plus(v4, 192), plus(v6, 0xc0))))
	for i := range 6 {
		m.create(fmt.Sprint("on-segment-", i), from("segment", of(dual, false)))
	}
	var addresses []netip.Addr
	for i := range 6 {
		name := fmt.Sprint("on-segment-", i)
		for _, address := range m.addresses(name, 2) {
			var macs []string
			m.until(func() bool {
				macs = m.asked(testbed.Question{Address: address, Interface: "eth2"})
				return len(macs) == 1
			}, "not one node answers for %s", address)
			require.Contains(m, have, macs[0])
			m.works(address)
			require.Equal(m, macs, m.asked(testbed.Question{Address: address, Interface: "eth2"}))
			addresses = append(addresses, address)
		}
		m.says(name, "baremetal.cloud/Announced", "Announced")
	}
	for address, macs := range m.answering(addresses) {
		require.Empty(m, macs, "%s is answered where the default route leads", address)
	}
}

// poolsAnd is a cloud-config with the testbed's pool and more.
func (m *matrix) poolsAnd(more string) string {
	return fmt.Sprintf("apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\nfailover: %s\npools:\n- {name: default, addresses: [%q, %q], l2: [{interface: eth0}]}\n%s",
		slowFailover, m.c.PoolV4(), m.c.PoolV6(), more)
}

// plug gives a host another interface, eth2, on a switch of the LAN.
func (m *matrix) plug(host, bridge string, addresses ...netip.Prefix) (unplug func()) {
	m.Helper()
	port := host + "-eth2"
	require.NoError(m, netns.Batch(m.Context(), m.c.Layout().LAN, fmt.Sprintf("link add %[1]s type veth peer name eth2 netns %[2]s\nlink set %[1]s master %[3]s up\n", port, m.c.NetNS(host), bridge)))
	var commands strings.Builder
	for _, a := range addresses {
		fmt.Fprintf(&commands, "addr replace %s dev eth2\n", a)
	}
	require.NoError(m, netns.Batch(m.Context(), m.c.NetNS(host), commands.String()+"link set eth2 up\n"))
	return func() {
		m.Helper()
		require.NoError(m, netns.Batch(m.Context(), m.c.Layout().LAN, "link delete "+port+"\n"))
	}
}

// portMAC returns the hardware address of a host's interface.
func (m *matrix) portMAC(host, port string) (mac string) {
	m.Helper()
	m.port(host, port, func(i *net.Interface) error {
		mac = i.HardwareAddr.String()
		return nil
	})
	return mac
}

// linkLocal returns the link-local IPv6 address of a node's interface on the LAN.
func (l *lab) linkLocal(node string) (local netip.Addr) {
	l.Helper()
	l.port(node, "eth0", func(i *net.Interface) error {
		all, err := i.Addrs()
		for _, a := range all {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is6() && prefix.Addr().IsLinkLocalUnicast() {
				local = prefix.Addr()
			}
		}
		return err
	})
	require.True(l, local.IsValid(), "%s has no link-local address", node)
	return local
}

// port looks at an interface inside its host.
func (l *lab) port(host, name string, look func(*net.Interface) error) {
	l.Helper()
	require.NoError(l, netns.Do(l.c.NetNS(host), func() error {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		return look(i)
	}))
}
