package announcer_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// found waits until the node reports of these addresses that the host has them.
func (l *lan) found(addresses ...string) plan.Report {
	l.t.Helper()
	mac := l.host.Interface(l.t, "host0").HardwareAddr.String()
	var want []string
	for _, a := range addresses {
		want = append(want, a+" "+mac+" eth0")
	}
	var got []string
	require.Eventually(l.t, func() bool {
		got = nil
		for _, f := range l.lastReport().Findings {
			got = append(got, f.Address.String()+" "+f.MAC+" "+f.Interface)
		}
		return slices.Equal(got, want)
	}, patience, 20*time.Millisecond, "found %v", &got)
	return l.lastReport()
}

// TestProbesAhead: a host's kernel answers for the addresses that it has, in both families,
// and for no others; once it has them no more, nobody is found.
func TestProbesAhead(t *testing.T) {
	l := newLAN(t)
	l.host.Address(t, "host0", "192.0.2.201/24")
	l.host.Address(t, "host0", "2001:db8::201/64")
	set := plan.NodePlan{Cluster: "c", Version: plan.Version{Term: 1, Revision: 1}}
	set.Probing = plan.Probing{Version: set.Version, Interval: time.Second}
	for _, a := range []string{"192.0.2.201", "192.0.2.202", "2001:db8::201", "2001:db8::202"} {
		set.Probing.Probes = append(set.Probing.Probes, plan.Probe{Address: netip.MustParseAddr(a), Interface: "eth0"})
	}
	l.announcer.OnPlan("replica", set)
	report := l.found("192.0.2.201", "2001:db8::201")
	require.Equal(t, set.Version, report.Probed)
	for _, a := range []string{"192.0.2.201/24", "2001:db8::201/64"} {
		l.host.Change(t, "host0", func(i netlink.Link) error {
			address, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			return netlink.AddrDel(i, address)
		})
	}
	l.found()
	require.Equal(t, 0, l.announcer.Status().Found)
	require.GreaterOrEqual(t, l.announcer.Status().Conflicts.Probed, uint64(8))
}

// TestDefends: a host announces addresses of the node as its own. The node says so, and
// announces them again, but not each time.
func TestDefends(t *testing.T) {
	l := newLAN(t)
	l.plan(1, "eth0", vip4, vip6)
	l.resolve(vip4, l.mac())
	l.resolve(vip6, l.mac())
	host := l.host.Interface(t, "host0")
	for _, c := range []struct {
		protocol responder.Protocol
		address  string
	}{{arp.Protocol{}, vip4}, {ndp.Protocol{}, vip6}} {
		address := netip.MustParseAddr(c.address)
		claimant := responder.New(responder.Options{Protocol: c.protocol})
		t.Cleanup(claimant.Close)
		port := &responder.Port{Index: host.Index, Name: host.Name, MAC: host.HardwareAddr, Addresses: responder.NewAddresses(address)}
		before := l.announcer.Status().Conflicts
		claim := func() {
			l.host.Do(func() {
				_, err := claimant.Announce([]netip.Addr{address})
				require.NoError(t, err)
			})
		}
		l.host.Do(func() { require.Empty(t, claimant.Apply([]*responder.Port{port})) })
		began := time.Now()
		claim()
		require.Eventually(t, func() bool { return l.announcer.Status().Conflicts.Defended > before.Defended }, patience, time.Millisecond)
		// Who is heard again within ten seconds is counted and not answered.
		require.Eventually(t, func() bool {
			claim()
			return l.announcer.Status().Conflicts.Claimed > before.Claimed+1
		}, patience, 100*time.Millisecond)
		defended := l.announcer.Status().Conflicts.Defended - before.Defended
		require.LessOrEqual(t, defended, 1+uint64(time.Since(began)/(10*time.Second)))
		claimant.Close()
	}
	l.found(vip4, vip6)
}

// TestFault_K2_8_TaggedFramesAreNotHeard: a machine of another VLAN, whose frames come with a tag,
// has an address of that VLAN and not the one that is probed, in both families.
func TestFault_K2_8_TaggedFramesAreNotHeard(t *testing.T) {
	l := newLAN(t)
	host := l.host.Interface(t, "host0")
	var conn *packet.Conn
	var err error
	l.host.Do(func() { conn, err = packet.Listen(host, packet.Raw, unix.ETH_P_LOOPBACK, nil) })
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	held4, held6 := netip.MustParseAddr("192.0.2.201"), netip.MustParseAddr("2001:db8::201")
	claim := func(tag ...byte) {
		for _, c := range []struct {
			protocol responder.Protocol
			address  netip.Addr
		}{{arp.Protocol{}, held4}, {ndp.Protocol{}, held6}} {
			port := &responder.Port{MAC: host.HardwareAddr, Addresses: responder.NewAddresses(c.address)}
			frame := c.protocol.Announcement(port, c.address)[0]
			frame = slices.Insert(frame, 12, tag...)
			_, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
			require.NoError(t, err)
		}
	}
	probed := func(revision uint64, claim func()) plan.Report {
		set := plan.NodePlan{Cluster: "c", Version: plan.Version{Term: 1, Revision: revision}}
		set.Probing = plan.Probing{Version: set.Version, Interval: time.Second, Probes: []plan.Probe{
			{Address: held4, Interface: "eth0"}, {Address: held6, Interface: "eth0"},
		}}
		l.announcer.OnPlan("replica", set)
		var after uint64
		require.Eventually(t, func() bool {
			claim()
			if l.lastReport().Probed != set.Version {
				after = l.announcer.Status().Conflicts.Probed
				return false
			}
			return l.announcer.Status().Conflicts.Probed >= after+4 // Two whole rounds later.
		}, patience, 20*time.Millisecond)
		return l.lastReport()
	}
	require.Empty(t, probed(1, func() { claim(0x81, 0, 0, 7) }).Findings)
	require.Len(t, probed(2, func() { claim() }).Findings, 2)
}

// TestFault_K1_1_AFloodOfClaims: a machine claims an address of the node's under ever new hardware
// addresses, twenty thousand times a second. Claims are read at a bounded rate, four
// machines are kept, the first of them among them, reports and log lines are few, and the
// address is answered.
func TestFault_K1_1_AFloodOfClaims(t *testing.T) {
	for name, test := range map[string]struct {
		protocol probe.Protocol
		address  string
		frame    func(i int) []byte
	}{
		"IPv4": {arp.Protocol{}, vip4, claims(arp.Protocol{}, vip4)},
		"IPv6": {ndp.Protocol{}, vip6, claims(ndp.Protocol{}, vip6)},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			l.plan(1, "eth0", vip4, vip6)
			l.resolve(test.address, l.mac())
			sender := l.host.Sender(t, "host0")
			first := test.frame(0)
			address, mac, ok := test.protocol.Holder(first)
			require.True(t, ok)
			require.Equal(t, test.address, address.String())
			require.Eventually(t, func() bool {
				sender.Send(first)
				return len(l.lastReport().Findings) == 1
			}, patience, 20*time.Millisecond)
			l.mu.Lock()
			before := len(l.reports)
			l.mu.Unlock()
			const how = 3 * time.Second
			sent, core := sender.Flood(how, 20000, func(i int) []byte { return test.frame(1 + i) })
			l.mu.Lock()
			reports := len(l.reports) - before
			l.mu.Unlock()
			counts := l.announcer.Status().Conflicts
			t.Logf("%d claims, %d heard, %d reports, %.1f %% of a core", sent, counts.Claimed, reports, 100*core)
			require.LessOrEqual(t, reports, 10, "one a second at most")
			require.Less(t, counts.Claimed, uint64(2000))
			findings := l.lastReport().Findings
			require.Len(t, findings, 4)
			require.True(t, slices.ContainsFunc(findings, func(f plan.Finding) bool { return f.MAC == mac.String() }))
			l.resolve(test.address, l.mac())
		})
	}
}

// claims returns what machine i sends to claim address, of those that p knows.
func claims(p responder.Protocol, address string) func(i int) []byte {
	frames := make([][]byte, 4096)
	for i := range frames {
		mac := net.HardwareAddr{6, 0, 0, 0, byte(i >> 8), byte(i)}
		port := &responder.Port{MAC: mac}
		frames[i] = p.Announcement(port, netip.MustParseAddr(address))[0]
	}
	return func(i int) []byte { return frames[i%len(frames)] }
}
