package responder_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

const vip6 = "2001:db8::200"

// answersIPv6 returns a LAN whose node, which has no IPv6 address but its link-local one,
// answers for addresses.
func answersIPv6(t *testing.T, addresses ...string) (*realLAN, *responder.Responder) {
	t.Helper()
	l := vethLAN(t)
	r := responder.New(responder.Options{Protocol: ndp.Protocol{}})
	t.Cleanup(r.Close)
	l.apply(r, l.with(addresses...))
	return l, r
}

// resolves waits until the host's kernel finds address at the node.
func (l *realLAN) resolves(address string) {
	l.t.Helper()
	require.Eventually(l.t, func() bool {
		return l.host.Resolve("host0", address).String() == l.port.MAC.String()
	}, patience, time.Millisecond, address)
}

// TestNeighborDiscovery is behaviour L7 as other kernels see it: by multicast, by the
// unicast probes that confirm an address, from another prefix, and by a host that wants
// the address for itself.
func TestNeighborDiscovery(t *testing.T) {
	t.Run("multicast", func(t *testing.T) {
		l, _ := answersIPv6(t, vip6)
		l.host.Address(t, "host0", "2001:db8::1/64")
		l.resolves(vip6)
		require.Nil(t, l.host.Resolve("host0", "2001:db8::201"))
	})
	t.Run("asker of another prefix", func(t *testing.T) {
		l, _ := answersIPv6(t, vip6)
		l.host.Address(t, "host0", "2001:db8:ffff::9/64")
		l.host.Change(t, "host0", func(port netlink.Link) error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: port.Attrs().Index, Dst: &net.IPNet{
				IP: net.ParseIP("2001:db8::"), Mask: net.CIDRMask(64, 128),
			}})
		})
		l.resolves(vip6)
	})
	t.Run("unicast probes", func(t *testing.T) {
		l, _ := answersIPv6(t, vip6)
		l.host.Address(t, "host0", "2001:db8::1/64")
		l.resolves(vip6)
		l.host.Change(t, "host0", func(port netlink.Link) error {
			return netlink.NeighSet(&netlink.Neigh{
				LinkIndex: port.Attrs().Index, IP: net.ParseIP(vip6), HardwareAddr: l.port.MAC, State: netlink.NUD_PROBE,
			})
		})
		require.Eventually(t, func() bool {
			return l.host.NeighbourState(t, "host0", vip6) == netlink.NUD_REACHABLE
		}, patience, time.Millisecond, "the probes of a neighbour that is known are answered")
	})
	t.Run("duplicate address detection", func(t *testing.T) {
		l, _ := answersIPv6(t, vip6)
		require.True(t, l.refusedAsDuplicate(vip6))
	})
}

// refusedAsDuplicate puts address on the host with duplicate address detection, and
// reports whether the kernel found another machine that has it.
func (l *realLAN) refusedAsDuplicate(address string) (refused bool) {
	l.t.Helper()
	for file, value := range map[string]string{
		"conf/host0/accept_dad": "1",
		// How long it waits for an answer: one is heard at once, however busy the machine is.
		"neigh/host0/retrans_time_ms": "60000",
	} {
		var err error
		l.host.Do(func() { err = os.WriteFile("/proc/sys/net/ipv6/"+file, []byte(value), 0o644) })
		require.NoError(l.t, err)
	}
	l.host.Change(l.t, "host0", func(port netlink.Link) error {
		return netlink.AddrAdd(port, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(64, 128)}})
	})
	decided := func() (done bool) {
		l.host.Change(l.t, "host0", func(port netlink.Link) error {
			list, err := netlink.AddrList(port, netlink.FAMILY_V6)
			for _, a := range list {
				if a.IP.Equal(net.ParseIP(address)) {
					refused = a.Flags&unix.IFA_F_DADFAILED != 0
					done = refused || a.Flags&unix.IFA_F_TENTATIVE == 0
				}
			}
			return err
		})
		return done
	}
	require.Eventually(l.t, decided, patience, 5*time.Millisecond)
	return refused
}

// TestUntrustworthySolicitations: what a router forwarded (hop limit below 255) never
// reaches the process, and what is malformed ends nothing.
func TestUntrustworthySolicitations(t *testing.T) {
	l, r := answersIPv6(t, vip6)
	l.host.Address(t, "host0", "2001:db8::1/64")
	l.resolves(vip6)
	before := r.Counts()
	send := l.rawIPv6()
	for hops := range 255 {
		send(solicitation(byte(hops), vip6))
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		frame := solicitation(255, vip6)
		frame = frame[:14+random.IntN(len(frame)-13)]
		for range random.IntN(8) {
			frame[12+random.IntN(len(frame)-12)] = byte(random.Uint32())
		}
		send(frame)
	}
	send(solicitation(255, vip6))
	require.Eventually(t, func() bool { return r.Counts().Outcomes[responder.Answered] > before.Outcomes[responder.Answered] },
		patience, time.Millisecond)
	l.resolves(vip6)
}

// rawIPv6 returns what sends frames of the host.
func (l *realLAN) rawIPv6() func(frame []byte) {
	l.t.Helper()
	port := l.host.Interface(l.t, "host0")
	var conn *packet.Conn
	var err error
	l.host.Do(func() { conn, err = packet.Listen(port, packet.Raw, unix.ETH_P_IPV6, nil) })
	require.NoError(l.t, err)
	l.t.Cleanup(func() { _ = conn.Close() })
	return func(frame []byte) {
		_, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
		require.NoError(l.t, err)
	}
}

// solicitation is a Neighbor Solicitation of the host for target without options, by
// multicast, and right but for its hop limit.
func solicitation(hops byte, target string) []byte {
	to, from := netip.MustParseAddr(target).As16(), netip.MustParseAddr("2001:db8::1").As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(group[13:], to[13:])
	frame := append([]byte{0x33, 0x33}, group[12:]...)
	frame = append(append(frame, askerMAC...), 0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, unix.IPPROTO_ICMPV6, hops)
	frame = append(append(frame, from[:]...), group[:]...)
	frame = append(append(frame, 135, 0, 0, 0, 0, 0, 0, 0), to[:]...)
	sum := uint32(24 + unix.IPPROTO_ICMPV6)
	for i := 22; i < len(frame); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(frame[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(frame[56:], ^uint16(sum))
	return frame
}

// TestThousandsOfGroups is behaviour L7 beyond the number of groups that the kernel lets
// one socket join (2339 with the usual net.core.optmem_max): the interface is in all of
// them, and in none that is not needed any more.
func TestThousandsOfGroups(t *testing.T) {
	l, r := answersIPv6(t)
	const count = 2500
	p := l.port
	for i := range count {
		p.Addresses = p.Addresses.With(responder.Address(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x:%x", 1+i/1000, i))))
	}
	l.apply(r, &p)
	require.Equal(t, count, l.groups())
	l.host.Address(t, "host0", "2001:db8::1/64")
	for _, i := range []int{0, 1234, count - 1} {
		l.resolves(p.Addresses.Nth(i).At().String())
	}
	some := p
	some.Addresses = first(p.Addresses, 10)
	l.apply(r, &some)
	require.Equal(t, 10, l.groups())
	l.apply(r)
	require.Zero(t, l.groups())
}

// groups counts the solicited-node groups that eth0 is in for its Port.
func (l *realLAN) groups() (count int) {
	l.t.Helper()
	var data []byte
	var err error
	l.node.Do(func() { data, err = os.ReadFile("/proc/thread-self/net/igmp6") })
	require.NoError(l.t, err)
	own := fmt.Sprintf("ff0200000000000000000001ff%x", []byte(l.port.MAC[3:])) // of the link-local address
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if fields[1] == "eth0" && strings.HasPrefix(fields[2], "ff0200000000000000000001ff") && fields[2] != own {
			count++
		}
	}
	return count
}
