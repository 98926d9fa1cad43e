package announcer_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"baremetal.cloud/ccm/pkg/announcer/internal/testlan"
	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// answersFrom asks the segment from the host, as a machine that is about to use the address does,
// and returns the hardware addresses that answer.
func (l *lan) answersFrom(address string) []string {
	l.t.Helper()
	host := l.host.Interface(l.t, "host0")
	port := &responder.Port{Index: host.Index, Name: host.Name, MAC: host.HardwareAddr, Addresses: responder.NewAddresses(netip.MustParseAddr(address))}
	var protocol probe.Protocol = arp.Protocol{}
	if port.Addresses.Nth(0).At().Is6() {
		protocol = ndp.Protocol{}
	}
	var found []probe.Holder
	var err error
	l.host.Do(func() {
		var q *probe.Question
		if q, err = probe.New(protocol, nil, []*responder.Port{port}); err == nil {
			found, err = q.Run(context.Background(), probe.Quick)
		}
	})
	require.NoError(l.t, err)
	var macs []string
	for _, h := range found {
		macs = append(macs, h.MAC)
	}
	return macs
}

// unable waits until the node says why it cannot answer for address, and claims it not.
func (b *bridged) unable(m *member, address string, why reason.Reason) {
	b.t.Helper()
	require.EventuallyWithT(b.t, func(c *assert.CollectT) {
		r := m.lastReport()
		found := false
		for _, p := range r.Problems {
			found = found || p.Address == netip.MustParseAddr(address) && p.Reason == why
		}
		require.True(c, found, "%v", r.Problems)
		require.False(c, r.Claims.Has(netip.MustParseAddr(address)))
	}, patience, time.Millisecond)
}

// TestFault_K2_1_OwnerLosesItsAddress: a node that can send nothing of a family gives up the
// addresses of that family, and no others, without a word from any leader; and takes none
// back when it can again. It is the same where it hears and tells its peers nothing meanwhile.
func TestFault_K2_1_OwnerLosesItsAddress(t *testing.T) {
	for name, tt := range map[string]struct {
		prefix, lost, kept string
		alone              bool
	}{
		"IPv4":                   {"192.0.2.10/24", vip4, vip6, false},
		"IPv6":                   {"2001:db8::10/64", vip6, vip4, false},
		"IPv4, there is no IPv6": {"192.0.2.10/24", vip4, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBridged(t, 3, true)
			addresses := []string{vip4}
			if tt.alone {
				for _, m := range b.nodes {
					m.space.Do(func() { _ = os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0o644) })
				}
			} else {
				addresses = append(addresses, vip6)
			}
			b.begin(fast, addresses...)
			for _, m := range b.nodes {
				b.awaitPeers(m, 2)
			}
			first, second := b.nodes[0], b.nodes[1]
			b.awaitClaims(first, len(addresses))

			lost := time.Now()
			first.space.RemoveAddress(t, "eth0", tt.prefix)
			require.Eventually(t, func() bool { return second.lastReport().Claims.Has(netip.MustParseAddr(tt.lost)) }, patience, time.Millisecond)
			t.Logf("taken over after %s", time.Since(lost))
			b.unable(first, tt.lost, reason.NodeNoRouteBack)
			require.Equal(t, []string{b.macOf(second).String()}, b.answersFrom(tt.lost))
			if tt.kept != "" {
				require.Equal(t, []string{b.macOf(first).String()}, b.answersFrom(tt.kept))
			}

			first.space.Address(t, "eth0", tt.prefix)
			require.Eventually(t, func() bool { return len(first.lastReport().Problems) == 0 }, patience, time.Millisecond)
			for _, m := range b.nodes {
				b.awaitPeers(m, 2)
			}
			require.Equal(t, []string{b.macOf(second).String()}, b.answersFrom(tt.lost))
		})
	}
}

// TestFault_K2_5_OneInterfaceAnswers: a node with two interfaces on one segment answers with
// the hardware address of one, for both families, whatever selects them.
func TestFault_K2_5_OneInterfaceAnswers(t *testing.T) {
	b := newBridged(t, 1, true)
	m := b.nodes[0]
	testlan.Veth(t, m.space, "eth1", b.bridge, "node1b")
	b.plug("node1b")
	m.space.AwaitUp(t, "eth1")
	m.space.Address(t, "eth1", "192.0.2.99/24")
	m.space.Address(t, "eth1", "2001:db8::99/64")
	l := &lan{t: t, host: b.host, announcer: m.announcer}
	for revision, selector := range []string{"", "/eth[01]/", "can_reach:192.0.2.1", "can_reach:2001:db8::1"} {
		l.plan(uint64(1+revision), selector, vip4, vip6)
		for _, vip := range []string{vip4, vip6} {
			b.resolve(vip, b.macOf(m))
			require.Equal(t, []string{b.macOf(m).String()}, b.answersFrom(vip))
		}
	}
	m.space.RemoveAddress(t, "eth0", "192.0.2.10/24")
	l.plan(9, "/eth[01]/", vip4, vip6)
	eth1 := m.space.Interface(t, "eth1").HardwareAddr
	b.resolve(vip4, eth1)
	require.Equal(t, []string{eth1.String()}, b.answersFrom(vip4))
	require.Equal(t, []string{b.macOf(m).String()}, b.answersFrom(vip6))
}

// TestFault_K2_9_NoRouteBackIsSaid: where no reply could leave, nothing is answered, and the
// Reason says so, for each family by itself.
func TestFault_K2_9_NoRouteBackIsSaid(t *testing.T) {
	l := newLAN(t)
	l.plan(1, "eth0", vip4, vip6)
	l.resolve(vip4, l.mac())
	l.resolve(vip6, l.mac())
	l.node.RemoveAddress(t, "eth0", "198.51.100.9/24")
	l.problem(vip4, reason.NodeNoRouteBack, "eth0 cannot send IPv4: it has no route or no usable address of it, so no reply could leave there")
	require.Empty(t, l.answersFrom(vip4))
	require.Len(t, l.answersFrom(vip6), 1)
	l.node.RemoveAddress(t, "eth0", "2001:db8:9::9/64")
	l.problem(vip6, reason.NodeNoRouteBack, "eth0 cannot send IPv6: it has no route or no usable address of it, so no reply could leave there")
	require.Empty(t, l.answersFrom(vip6))
	l.node.Route(t, "eth0", "192.0.2.0/24", 0) // Without an address.
	l.resolve(vip4, l.mac())
}

// TestFault_K2_10_HungLoopIsSeen: how long the loop is at one thing shows, and no longer when it
// goes on.
func TestFault_K2_10_HungLoopIsSeen(t *testing.T) {
	b := newBridged(t, 1, true)
	m := b.nodes[0]
	b.plan(1, plan.Failover{}, vip4)
	b.awaitClaims(m, 1)
	m.block.Lock()
	b.plan(2, plan.Failover{}, vip4, vip6) // Something to report.
	require.Eventually(t, func() bool { return m.announcer.Status().Busy > 50*time.Millisecond }, patience, time.Millisecond)
	m.block.Unlock()
	require.Eventually(t, func() bool { return m.announcer.Status().Busy == 0 }, patience, time.Millisecond)
}

// TestFault_K2_10_SentToAPort: what the kernel takes for sent to the node is, be it sent to the
// hardware address of a port of the bridge that answers; what it only overhears is not.
func TestFault_K2_10_SentToAPort(t *testing.T) {
	l := newLAN(t)
	var err error
	l.node.Do(func() {
		err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 7}}})
	})
	require.NoError(t, err)
	l.node.Change(t, "br0", netlink.LinkSetUp)
	l.node.Change(t, "br0", netlink.SetPromiscOn)
	l.node.Address(t, "br0", "198.51.100.8/24")
	l.node.Address(t, "br0", "2001:db8:9::8/64")
	l.node.Change(t, "br0", func(bridge netlink.Link) error {
		port, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(port, bridge)
	})
	l.plan(1, "br0", vip4, vip6)
	bridge := l.node.Interface(t, "br0").HardwareAddr
	for _, vip := range []string{vip4, vip6} {
		l.resolve(vip, bridge)
		require.Eventually(t, func() bool { return l.asksAt(vip, l.mac()) == bridge.String() }, patience, time.Millisecond)
		require.Empty(t, l.asksAt(vip, net.HardwareAddr{2, 0, 0, 0, 0, 0x66}))
	}
}

// asksAt sends a question for address to a hardware address, and returns who answers soon, or "".
func (l *lan) asksAt(address string, to net.HardwareAddr) string {
	l.t.Helper()
	a := netip.MustParseAddr(address)
	protocol := probe.Protocol(arp.Protocol{})
	if a.Is6() {
		protocol = ndp.Protocol{}
	}
	host := l.host.Interface(l.t, "host0")
	var from string
	var err error
	l.host.Do(func() {
		var conn *packet.Conn
		if conn, err = packet.Listen(host, packet.Raw, protocol.EtherType(), nil); err != nil {
			return
		}
		defer conn.Close()
		frame := protocol.Probe(host.HardwareAddr, a)
		copy(frame, to)
		if _, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: to}); err != nil {
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		buffer := make([]byte, 2048)
		for from == "" {
			n, _, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if found, mac, ok := protocol.Holder(buffer[:n]); ok && found == a {
				from = mac.String()
			}
		}
	})
	require.NoError(l.t, err)
	return from
}
