package bfd_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/bfd"
	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
	"baremetal.cloud/ccm/pkg/announcer/internal/testlan"
	"baremetal.cloud/ccm/pkg/announcer/realtime"
)

const patience = 30 * time.Second

// lan is two namespaces with two links between them.
type lan struct{ node, host *testlan.Namespace }

func newLAN(t *testing.T) lan {
	t.Helper()
	l := lan{testlan.New(t), testlan.New(t)}
	testlan.Veth(t, l.node, "eth0", l.host, "host0")
	l.node.Address(t, "eth0", "192.0.2.1/24")
	l.node.Address(t, "eth0", "2001:db8::1/64")
	l.host.Address(t, "host0", "192.0.2.2/24")
	l.host.Address(t, "host0", "192.0.2.3/24")
	l.host.Address(t, "host0", "2001:db8::2/64")
	return l
}

// run runs a Runner in a namespace until the test ends.
func run(t *testing.T, space *testlan.Namespace, options bfd.Options, configs ...bfd.SessionConfig) *bfd.Runner {
	t.Helper()
	loop, err := realtime.NewLoop(realtime.NewThread(false, nil))
	require.NoError(t, err)
	options.Loop = loop
	r := bfd.New(options)
	require.NoError(t, r.Set(configs))
	ctx, cancel := context.WithCancel(context.Background())
	done := space.Go(func() { _ = r.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

// session returns a configuration that also a crowded machine keeps.
func session(peer string, change ...func(*bfd.SessionConfig)) bfd.SessionConfig {
	c := bfd.SessionConfig{
		Key:              bfd.Key{Peer: netip.MustParseAddr(peer)},
		TransmitInterval: 100 * time.Millisecond, ReceiveInterval: 100 * time.Millisecond, DetectMultiplier: 30,
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func await(t *testing.T, r *bfd.Runner, want bfd.State) {
	t.Helper()
	require.Eventually(t, func() bool {
		all := r.Sessions()
		return len(all) > 0 && !slices.ContainsFunc(all, func(s bfd.Status) bool { return s.State != want })
	}, patience, 5*time.Millisecond, "%s", want)
}

// linkLocal returns an interface's own address.
func linkLocal(t *testing.T, space *testlan.Namespace, name string) string {
	t.Helper()
	address := ""
	space.Change(t, name, func(link netlink.Link) error {
		all, err := netlink.AddrList(link, unix.AF_INET6)
		for _, a := range all {
			if a.IP.IsLinkLocalUnicast() {
				address = a.IP.String()
			}
		}
		return err
	})
	require.NotEmpty(t, address)
	return address
}

// TestSessionsOfAllShapes: one Runner at each end, one session of each shape, real sockets.
func TestSessionsOfAllShapes(t *testing.T) {
	l := newLAN(t)
	l.node.AwaitUp(t, "eth0")
	l.host.AwaitUp(t, "host0")
	multihop := func(c *bfd.SessionConfig) { c.Multihop, c.MinimumTTL = true, 255 }
	signed := func(c *bfd.SessionConfig) {
		c.Auth = &bfd.Auth{Type: bfd.MeticulousKeyedSHA1, KeyID: 5, Key: "secret"}
	}
	from := func(address string) func(*bfd.SessionConfig) {
		return func(c *bfd.SessionConfig) { c.Local = netip.MustParseAddr(address) }
	}
	through := func(name string) func(*bfd.SessionConfig) { return func(c *bfd.SessionConfig) { c.Interface = name } }
	node := run(t, l.node, bfd.Options{},
		session("192.0.2.2", signed), session("192.0.2.3", through("eth0")), session("2001:db8::2"),
		session("192.0.2.2", multihop), session("2001:db8::2", multihop, signed),
		session(linkLocal(t, l.host, "host0")+"%eth0"))
	host := run(t, l.host, bfd.Options{},
		session("192.0.2.1", from("192.0.2.2"), signed), session("192.0.2.1", from("192.0.2.3")), session("2001:db8::1", through("host0")),
		session("192.0.2.1", multihop, from("192.0.2.2")), session("2001:db8::1", multihop, signed),
		session(linkLocal(t, l.node, "eth0")+"%host0"))
	await(t, node, bfd.Up)
	await(t, host, bfd.Up)
	require.Eventually(t, func() bool {
		for _, s := range append(node.Sessions(), host.Sessions()...) {
			if s.Interval != 100*time.Millisecond || s.DetectionTime != 3*time.Second || s.Received < 10 {
				return false
			}
		}
		return true
	}, patience, 5*time.Millisecond, "negotiated")
	for _, s := range append(node.Sessions(), host.Sessions()...) {
		require.Equal(t, uint64(1), s.Ups, s.Key)
		require.Zero(t, s.Downs, s.Key)
		require.Empty(t, s.Dropped, s.Key)
	}
	require.Empty(t, node.Dropped())

	// The link is lost: all of them find out, and come back when it does.
	l.host.Change(t, "host0", netlink.LinkSetDown)
	await(t, node, bfd.Down)
	l.host.Change(t, "host0", netlink.LinkSetUp)
	l.host.Address(t, "host0", "2001:db8::2/64") // Down takes IPv6 addresses away.
	await(t, node, bfd.Up)
	await(t, host, bfd.Up)
}

// TestTentativeAddress: while the kernel still looks whether its link-local address is somebody
// else's, it would send from the global one to link-local peers. Such packets never leave, for
// the peer has a session with that address too, and each of the two would upset the other.
func TestTentativeAddress(t *testing.T) {
	l := lan{testlan.New(t), testlan.New(t)}
	l.node.DetectDuplicates(t, 1000)
	testlan.Veth(t, l.node, "eth0", l.host, "host0")
	l.node.Address(t, "eth0", "2001:db8::1/64")
	l.host.Address(t, "host0", "2001:db8::2/64")
	l.node.AwaitUp(t, "eth0")
	l.host.AwaitUp(t, "host0")
	tentative := linkLocal(t, l.node, "eth0")
	node := run(t, l.node, bfd.Options{}, session("2001:db8::2"), session(linkLocal(t, l.host, "host0")+"%eth0"))
	host := run(t, l.host, bfd.Options{}, session("2001:db8::1"), session(tentative+"%host0"))
	var global, local bfd.Status
	require.Eventually(t, func() bool {
		if all := node.Sessions(); len(all) == 2 {
			global, local = all[0], all[1]
		}
		return global.State == bfd.Up && local.Unsent > 0
	}, patience, 5*time.Millisecond)
	require.ErrorContains(t, local.Problem, "scope")
	require.Zero(t, local.Sent)

	l.node.Change(t, "eth0", func(link netlink.Link) error {
		address, err := netlink.ParseAddr(tentative + "/64")
		return errors.Join(err, netlink.AddrDel(link, address))
	})
	l.node.Address(t, "eth0", tentative+"/64")
	await(t, node, bfd.Up)
	await(t, host, bfd.Up)
	for _, s := range append(node.Sessions(), host.Sessions()...) {
		require.Equal(t, uint64(1), s.Ups, s.Key)
	}
	require.Empty(t, host.Dropped())
}

// plainSocket is a socket of the kernel's own kind, as any system might have.
func plainSocket(t *testing.T, space *testlan.Namespace, network, address string, options ...[3]int) *net.UDPConn {
	t.Helper()
	var conn net.PacketConn
	var err error
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			for _, o := range options {
				_ = unix.SetsockoptInt(int(fd), o[0], o[1], o[2])
			}
		})
	}}
	space.Do(func() { conn, err = config.ListenPacket(context.Background(), network, address) })
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.UDPConn)
}

// TestPacketsOnTheWire: TTL and hop limit 255, CS6, source ports as RFC 5881 §4 and §5 demand.
func TestPacketsOnTheWire(t *testing.T) {
	l := newLAN(t)
	l.node.AwaitUp(t, "eth0")
	v4 := plainSocket(t, l.host, "udp4", ":3784", [3]int{unix.IPPROTO_IP, unix.IP_RECVTTL, 1}, [3]int{unix.IPPROTO_IP, unix.IP_RECVTOS, 1})
	v6 := plainSocket(t, l.host, "udp6", ":4784", [3]int{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1}, [3]int{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1})
	run(t, l.node, bfd.Options{}, session("192.0.2.2"), session("2001:db8::2", func(c *bfd.SessionConfig) { c.Multihop = true }))
	for _, conn := range []*net.UDPConn{v4, v6} {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		octets, about := make([]byte, 100), make([]byte, 100)
		size, aboutSize, _, from, err := conn.ReadMsgUDPAddrPort(octets, about)
		require.NoError(t, err)
		p, err := protocol.Parse(octets[:size])
		require.NoError(t, err)
		require.Equal(t, bfd.Down, p.State)
		require.Equal(t, time.Second, p.DesiredMinTx)
		require.Equal(t, 100*time.Millisecond, p.RequiredMinRx)
		require.GreaterOrEqual(t, from.Port(), uint16(49152))
		messages, err := unix.ParseSocketControlMessage(about[:aboutSize])
		require.NoError(t, err)
		require.Len(t, messages, 2)
		for _, m := range messages {
			value := uint32(m.Data[0])
			if len(m.Data) >= 4 {
				value = binary.NativeEndian.Uint32(m.Data)
			}
			switch [2]int{int(m.Header.Level), int(m.Header.Type)} {
			case [2]int{unix.IPPROTO_IP, unix.IP_TTL}, [2]int{unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT}:
				require.EqualValues(t, 255, value)
			default:
				require.EqualValues(t, 0xc0, value)
			}
		}
	}
}

// TestForwardedPacketsAreDropped: what somebody sends from afar does not move a session, though
// it has the right discriminators (RFC 5881 §5).
func TestForwardedPacketsAreDropped(t *testing.T) {
	l := newLAN(t)
	l.node.AwaitUp(t, "eth0")
	for _, c := range []struct{ network, peer, to, from string }{
		{"udp4", "192.0.2.2", "192.0.2.1:3784", "192.0.2.2:50000"}, {"udp6", "2001:db8::2", "[2001:db8::1]:3784", "[2001:db8::2]:50000"},
	} {
		t.Run(c.network, func(t *testing.T) {
			node := run(t, l.node, bfd.Options{}, session(c.peer))
			conn := plainSocket(t, l.host, c.network, c.from)
			octets := protocol.Packet{State: bfd.Down, DetectMultiplier: 3, MyDiscriminator: 9, DesiredMinTx: time.Second, RequiredMinRx: time.Second}.Encode("")
			require.Eventually(t, func() bool { // Again and again: the node may not listen yet.
				_, err := conn.WriteToUDPAddrPort(octets, netip.MustParseAddrPort(c.to))
				return err == nil && node.Dropped()["TTL is too low: the packet was forwarded"] > 0
			}, patience, 5*time.Millisecond)
			for _, s := range node.Sessions() {
				require.Zero(t, s.Received)
				require.Equal(t, bfd.Down, s.State)
			}
		})
	}
}

// TestPortTaken: while another program has the port nothing is heard, and then it is.
func TestPortTaken(t *testing.T) {
	l := newLAN(t)
	l.node.AwaitUp(t, "eth0")
	other := plainSocket(t, l.node, "udp4", ":3784")
	node := run(t, l.node, bfd.Options{}, session("192.0.2.2"))
	host := run(t, l.host, bfd.Options{}, session("192.0.2.1"))
	// It sends all the same, so that the host is in Init.
	await(t, host, bfd.Init)
	await(t, node, bfd.Down)
	require.NoError(t, other.Close())
	await(t, node, bfd.Up)
	await(t, host, bfd.Up)
}

// TestInterfaceMadeAnew: a session bound to an interface outlives it, under its name.
func TestInterfaceMadeAnew(t *testing.T) {
	l := newLAN(t)
	l.node.AwaitUp(t, "eth0")
	node := run(t, l.node, bfd.Options{}, session("192.0.2.2", func(c *bfd.SessionConfig) { c.Interface, c.DetectMultiplier = "eth0", 3 }))
	run(t, l.host, bfd.Options{}, session("192.0.2.1", func(c *bfd.SessionConfig) { c.DetectMultiplier = 3 }))
	await(t, node, bfd.Up)
	l.node.Change(t, "eth0", netlink.LinkDel)
	await(t, node, bfd.Down)
	require.Eventually(t, func() bool {
		problem := node.Sessions()[0].Problem
		return problem != nil && strings.Contains(problem.Error(), "interface eth0")
	}, patience, 5*time.Millisecond)
	testlan.Veth(t, l.node, "eth0", l.host, "host0")
	l.node.Address(t, "eth0", "192.0.2.1/24")
	l.host.Address(t, "host0", "192.0.2.2/24")
	await(t, node, bfd.Up)
}
