//go:build !race

package bgp

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/need"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// wire is a router that sends the bytes that a test wants.
type wire struct {
	t    *testing.T
	port uint16
	// sessions are those that have begun, with the OPEN of the node.
	sessions chan *wireSession
}

type wireSession struct {
	net.Conn
	in   *bufio.Reader
	open *packet.BGPOpen
}

// newWire listens on the loopback and begins a session with each node that connects.
func newWire(t *testing.T, capabilities ...packet.ParameterCapabilityInterface) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	w := &wire{t: t, port: l.Addr().(*net.TCPAddr).AddrPort().Port(), sessions: make(chan *wireSession, 100)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			if s, err := begin(conn, capabilities); err == nil {
				w.sessions <- s
			}
		}
	}()
	return w
}

// begin goes through the beginning of a session as far as the node's KEEPALIVE.
func begin(conn net.Conn, capabilities []packet.ParameterCapabilityInterface) (*wireSession, error) {
	s := &wireSession{Conn: conn, in: bufio.NewReader(conn)}
	m, err := s.read()
	if err != nil {
		return nil, err
	}
	s.open = m.Body.(*packet.BGPOpen)
	open := packet.NewBGPOpenMessage(64513, 90, "127.0.0.9", []packet.OptionParameterInterface{packet.NewOptionParameterCapability(capabilities)})
	if err := s.send(open, packet.NewBGPKeepAliveMessage()); err != nil {
		return nil, err
	}
	_, err = s.read()
	return s, err
}

func (s *wireSession) send(messages ...*packet.BGPMessage) error {
	for _, m := range messages {
		b, err := m.Serialize()
		if err != nil {
			return err
		}
		if _, err := s.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func (s *wireSession) read() (*packet.BGPMessage, error) {
	header := make([]byte, 19)
	if _, err := io.ReadFull(s.in, header); err != nil {
		return nil, err
	}
	body := make([]byte, int(binary.BigEndian.Uint16(header[16:]))-19)
	if _, err := io.ReadFull(s.in, body); err != nil {
		return nil, err
	}
	return packet.ParseBGPMessage(append(header, body...))
}

// prefixes reads until n prefixes of IPv4 were announced.
func (s *wireSession) prefixes(t *testing.T, n int) {
	t.Helper()
	for n > 0 {
		m, err := s.read()
		require.NoError(t, err)
		if u, ok := m.Body.(*packet.BGPUpdate); ok {
			n -= len(u.NLRI)
		}
	}
}

// peer is the router as a peer of the speaker.
func (w *wire) peer(name string) Peer {
	p := external(name)
	p.Address, p.Port = netip.MustParseAddr("127.0.0.1"), w.port
	return p
}

// next returns the next session.
func (w *wire) next() *wireSession {
	w.t.Helper()
	select {
	case s := <-w.sessions:
		return s
	case <-time.After(patience):
		require.Fail(w.t, "the node does not connect")
		return nil
	}
}

var allCapabilities = []packet.ParameterCapabilityInterface{
	packet.NewCapMultiProtocol(packet.RF_IPv4_UC), packet.NewCapMultiProtocol(packet.RF_IPv6_UC), packet.NewCapRouteRefresh(),
	packet.NewCapFourOctetASNumber(64513), packet.NewCapFQDN("router", "example.com"),
	packet.NewCapGracefulRestart(false, true, 90, []*packet.CapGracefulRestartTuple{packet.NewCapGracefulRestartTuple(packet.RF_IPv4_UC, true)}),
}

func isEstablished(s State) bool {
	return len(s.Sessions) == 1 && s.Sessions[0].State == plan.BGPEstablished
}

// TestFault_K5_6_WhatGobgpCannotRead: a session goes on through messages that would end gobgp's
// process, and random bytes in UPDATEs.
func TestFault_K5_6_WhatGobgpCannotRead(t *testing.T) {
	t.Parallel()
	w := newWire(t, allCapabilities...)
	s := speak(t, "real")
	s.Set(Desired{
		Plan: nodePlan(1), Peers: []Peer{w.peer("out")}, Advertisements: []plan.Advertisement{{Name: "pool/0", Peers: []string{"out"}}},
		Routes: []plan.Route{{Prefix: v4, Advertisements: []string{"pool/0"}}},
	})
	session := w.next()
	s.until("established", isEstablished)
	for _, attributes := range [][]byte{
		{0x40, 1, 1, 0, 0x40, 3, 0}, {0x40, 1, 1, 0, 0x40, 99, 1, 0}, {0xc0, 17, 2, 9, 1, 0x40, 2, 0}, {0x00, 1, 1, 0}, {0x50, 8},
		{0xc0, 40, 4, 5, 0, 1, 0}, {0x80, 26, 3, 1, 0, 11}, {0xc0, 25, 7, 0, 2, 0, 0, 0, 0, 0}, {0x80, 14, 5, 0, 2, 1, 16, 0},
	} {
		body := append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attributes))), attributes...)
		body = append(body, 24, 203, 0, 113)
		message := binary.BigEndian.AppendUint16(slices.Repeat([]byte{0xff}, 16), uint16(19+len(body)))
		_, err := session.Write(append(append(message, 2), body...))
		require.NoError(t, err)
	}
	require.NoError(t, session.send(packet.NewBGPRouteRefreshMessage(1, 0, 1)))
	session.prefixes(t, 2) // At first, and as gobgp answers the request, after all of them.
	state := s.until("established", isEstablished)
	require.Zero(t, state.Failures)
	require.Zero(t, state.Sessions[0].Losses)
}

// TestFault_K5_3_SessionGoesOn: what is not negotiated changes while the session of a process that
// has just begun goes on, and another hold time begins another one, which is no loss.
func TestFault_K5_3_SessionGoesOn(t *testing.T) {
	t.Parallel()
	w := newWire(t, allCapabilities...)
	s := speak(t, "real")
	peer := w.peer("out")
	peer.GracefulRestart = time.Minute
	want := Desired{
		Plan: nodePlan(1), Peers: []Peer{peer}, Advertisements: []plan.Advertisement{{Name: "pool/0", Peers: []string{"out"}}},
		Routes: []plan.Route{{Prefix: v4, Advertisements: []string{"pool/0"}}},
	}
	s.Set(want)
	session := w.next()
	session.prefixes(t, 1)
	peer.KeepaliveTime, peer.ConnectRetryTime, peer.EBGPMultihop = 2*time.Second, 5*time.Second, 3
	peer.BFD = plan.BFD{TransmitInterval: time.Second, ReceiveInterval: time.Second, DetectMultiplier: 3}
	want.Plan, want.Peers = nodePlan(2), []Peer{peer}
	s.Set(want)
	s.until("changed", at(2))
	require.NoError(t, session.send(packet.NewBGPRouteRefreshMessage(1, 0, 1)))
	session.prefixes(t, 1)
	peer.HoldTime = 12 * time.Second
	want.Plan, want.Peers = nodePlan(3), []Peer{peer}
	s.Set(want)
	again := w.next()
	require.EqualValues(t, 12, again.open.HoldTime)
	again.prefixes(t, 1)
	require.Zero(t, s.until("another session", isEstablished).Sessions[0].Losses)
}

// TestFault_K5_4_LossOfAConnection: after a loss the node says that it went on forwarding, and
// that it has not restarted; after a restart both.
func TestFault_K5_4_LossOfAConnection(t *testing.T) {
	t.Parallel()
	w := newWire(t, allCapabilities...)
	s := speak(t, "real")
	peer := w.peer("out")
	peer.GracefulRestart = time.Minute
	s.Set(Desired{Plan: nodePlan(1), Peers: []Peer{peer}})
	restart := func(s *wireSession) string {
		for _, parameter := range s.open.OptParams {
			for _, c := range parameter.(*packet.OptionParameterCapability).Capability {
				if g, ok := c.(*packet.CapGracefulRestart); ok {
					return fmt.Sprintf("flags %#x, of families %#x %#x", g.Flags, g.Tuples[0].Flags, g.Tuples[1].Flags)
				}
			}
		}
		return "none"
	}
	session := w.next()
	require.Equal(t, "flags 0xc, of families 0x80 0x80", restart(session))
	s.until("established", isEstablished)
	require.NoError(t, session.Close())
	require.Equal(t, "flags 0x4, of families 0x80 0x80", restart(w.next()))
	s.until("established again", func(s State) bool { return isEstablished(s) && s.Sessions[0].Losses == 1 })
}

// TestFault_K5_8_OwnAddressOfTheSession: the next hop is the session's own local address, whatever
// the node's interfaces let expect; here 127.0.0.2 is one that leads nowhere else, so that the
// expectation stays, and a source address is one that does.
func TestFault_K5_8_OwnAddressOfTheSession(t *testing.T) {
	t.Parallel()
	w := newWire(t, allCapabilities...)
	own, release := globalOnLoopback(t)
	defer release()
	s := speak(t, "real")
	peer := w.peer("out")
	peer.SourceAddress, peer.NextHopV4 = own, netip.MustParseAddr("198.51.100.77")
	s.Set(Desired{
		Plan: nodePlan(1), Peers: []Peer{peer}, Advertisements: []plan.Advertisement{{Name: "pool/0", Peers: []string{"out"}}},
		Routes: []plan.Route{{Prefix: v4, Advertisements: []string{"pool/0"}}},
	})
	session := w.next()
	for {
		m, err := session.read()
		require.NoError(t, err)
		if u, ok := m.Body.(*packet.BGPUpdate); ok && len(u.NLRI) > 0 {
			i := slices.IndexFunc(u.PathAttributes, func(a packet.PathAttributeInterface) bool { return a.GetType() == packet.BGP_ATTR_TYPE_NEXT_HOP })
			require.Equal(t, own.String(), u.PathAttributes[i].(*packet.PathAttributeNextHop).Value.String())
			return
		}
	}
}

// globalOnLoopback returns an address of this host that is no loopback one, from which the
// loopback can be reached.
func globalOnLoopback(t *testing.T) (netip.Addr, func()) {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addresses {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr(), func() {}
		}
	}
	need.Missing(t, "the host has no IPv4 address but that of the loopback")
	return netip.Addr{}, nil
}

// TestFault_K5_2_ChangesLeaveNothing: other passwords, routers and identifiers, and peers that come
// and go, leave no goroutine and no memory behind.
func TestFault_K5_2_ChangesLeaveNothing(t *testing.T) {
	in, updates := io.Pipe()
	told, out := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- Serve(in, out)
		_ = out.Close()
	}()
	// It is read all the time, as a Speaker does: what gobgp logs waits for that, and a goroutine that
	// has ended a session logs that late on a busy machine.
	applied := make(chan uint64, 1)
	read := make(chan error, 1)
	go func() {
		for messages := json.NewDecoder(told); ; {
			var m message
			if err := messages.Decode(&m); err != nil {
				read <- err
				return
			}
			if m.Seq == 0 { // A line of gobgp's.
				continue
			}
			select {
			case <-applied:
			default:
			}
			applied <- m.Seq
		}
	}()
	encoder := json.NewEncoder(updates)
	seq := uint64(0)
	apply := func(u update) {
		seq++
		u.Seq = seq
		require.NoError(t, encoder.Encode(u))
		for now := range applied {
			if now == seq {
				return
			}
		}
	}
	peer := external("out")
	peer.Address, peer.Port = netip.MustParseAddr("127.0.0.1"), 1 // tcpmux (RFC 1078), which nothing listens on
	advertisements := []plan.Advertisement{{Name: "pool/0", Peers: []string{"out"}}}
	u := update{Config: &config{[]Peer{peer}, advertisements}}
	for i := range 5000 {
		u.Routes = append(u.Routes, plan.Route{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i / 256), byte(i)}), 32), Advertisements: []string{"pool/0"}})
	}
	apply(u)
	round := func(i int) {
		for _, change := range []func(*Peer){
			func(p *Peer) { p.Password = Secret(fmt.Sprint("secret", i)) },
			func(p *Peer) { p.Address = netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}) },
			func(p *Peer) { p.RouterID = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}) },
			func(p *Peer) { p.HoldTime = time.Duration(9+i%2) * time.Second },
			func(p *Peer) { p.IPv6 = i%2 == 0 },
			func(p *Peer) { p.LocalASN = uint32(64600 + i) },
		} {
			change(&peer)
			apply(update{Config: &config{[]Peer{peer}, advertisements}})
		}
		apply(update{Config: &config{nil, advertisements}})
		apply(update{Config: &config{[]Peer{peer}, advertisements}})
	}
	measure := func() (goroutines int, heap uint64) {
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	round(0)
	goroutines, heap := measure()
	for i := range 10 {
		round(i + 1)
	}
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		now, used := measure()
		assert.LessOrEqual(t, now, goroutines+2, "goroutines")
		assert.Less(t, used, heap+heap/10, "bytes")
	}, patience, 100*time.Millisecond, "more than after the first round")
	require.NoError(t, updates.Close())
	require.NoError(t, <-served)
	require.ErrorIs(t, <-read, io.EOF)
}
