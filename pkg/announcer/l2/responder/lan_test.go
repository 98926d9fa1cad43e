package responder_test

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	codec "github.com/mdlayher/arp"
	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/internal/testlan"
	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

const patience = 2 * time.Minute

var (
	askerMAC  = net.HardwareAddr{2, 0, 0, 0, 0, 0xbb}
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	askerIP   = netip.MustParseAddr("203.0.113.9")
)

// lan is a segment with a node and a host that asks: in memory, or a veth pair. Tests
// that are about behaviour run on both.
type lan struct {
	t testing.TB
	// in runs f where the node's sockets are to be opened.
	in     func(f func())
	listen responder.ListenFunc
	// port is the node's, without addresses.
	port responder.Port
	// asker is the host's socket: it receives all ARP frames.
	asker asker
}

// asker is a responder.Conn that need not send without waiting.
type asker interface {
	ReadFrom(frame []byte) (int, net.Addr, error)
	WriteTo(frame []byte, to net.Addr) (int, error)
	SetDeadline(t time.Time) error
	Close() error
}

// onBoth runs body on a LAN in memory and on a real one.
func onBoth(t *testing.T, body func(*testing.T, *lan)) {
	t.Run("memory", func(t *testing.T) { body(t, memoryLAN(t)) })
	t.Run("veth", func(t *testing.T) { body(t, vethLAN(t).lan) })
}

type realLAN struct {
	*lan
	node, host *testlan.Namespace
}

func vethLAN(t testing.TB) *realLAN {
	t.Helper()
	return joinByVeth(t, testlan.New(t), testlan.New(t))
}

func joinByVeth(t testing.TB, node, host *testlan.Namespace) *realLAN {
	t.Helper()
	testlan.Veth(t, node, "eth0", host, "host0")
	host.Change(t, "host0", setMAC(askerMAC))
	node.AwaitUp(t, "eth0")
	host.AwaitUp(t, "host0")
	ifi := node.Interface(t, "eth0")
	peer := host.Interface(t, "host0")
	l := &lan{t: t, in: node.Do, port: responder.Port{Index: ifi.Index, Name: ifi.Name, MAC: ifi.HardwareAddr}}
	var err error
	host.Do(func() { l.asker, err = packet.Listen(peer, packet.Raw, unix.ETH_P_ARP, nil) })
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.asker.Close() })
	return &realLAN{lan: l, node: node, host: host}
}

func memoryLAN(t testing.TB) *lan {
	t.Helper()
	node, host := newMemoryConn(), newMemoryConn()
	node.peer, host.peer = host, node
	node.own = net.HardwareAddr{2, 0, 0, 0, 0, 0xaa}
	return &lan{
		t: t, in: func(f func()) { f() }, asker: host,
		listen: func(*responder.Port, int, []bpf.RawInstruction) (responder.Conn, error) { return node, nil },
		port:   responder.Port{Index: 3, Name: "eth0", MAC: node.own},
	}
}

// with returns the node's port answering for addresses, which are sorted.
func (l *lan) with(addresses ...string) *responder.Port {
	p := l.port
	for _, a := range addresses {
		p.Addresses = p.Addresses.With(responder.Address(netip.MustParseAddr(a)))
	}
	return &p
}

// first returns the first n of addresses.
func first(addresses responder.Addresses, n int) (out responder.Addresses) {
	for a := range addresses.All() {
		if out.Len() < n {
			out = out.With(a)
		}
	}
	return out
}

// apply calls Apply where sockets belong to the node, and wants no failure.
func (l *lan) apply(r *responder.Responder, ports ...*responder.Port) {
	l.t.Helper()
	var failures map[int]error
	l.in(func() { failures = r.Apply(ports) })
	require.Empty(l.t, failures)
}

// ask sends a request for target and returns the hardware address that is answered, or nil.
// Nobody answering is known by the answer to a later question for control.
func (l *lan) ask(target, control string) net.HardwareAddr {
	l.t.Helper()
	l.request(target)
	l.request(control)
	var found net.HardwareAddr
	for {
		p := l.receive()
		if p.Operation != codec.OperationReply {
			continue
		}
		if p.SenderIP.String() == target {
			found = p.SenderHardwareAddr
		}
		if p.SenderIP.String() == control {
			return found
		}
	}
}

// askAgain asks for target until it is answered: a link that has just come up loses frames.
func (l *lan) askAgain(target string) net.HardwareAddr {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	buffer := make([]byte, 2048)
	for time.Now().Before(deadline) {
		l.request(target)
		require.NoError(l.t, l.asker.SetDeadline(time.Now().Add(100*time.Millisecond)))
		n, _, err := l.asker.ReadFrom(buffer)
		var p codec.Packet
		if err == nil && p.UnmarshalBinary(buffer[14:n]) == nil && p.Operation == codec.OperationReply && p.SenderIP.String() == target {
			return p.SenderHardwareAddr
		}
	}
	require.FailNow(l.t, "nobody answers for "+target)
	return nil
}

// applyFails calls Apply and returns its failures.
func (l *lan) applyFails(r *responder.Responder, ports ...*responder.Port) map[int]error {
	var failures map[int]error
	l.in(func() { failures = r.Apply(ports) })
	return failures
}

// vethAgain joins l's namespaces by a new pair under the old names.
func vethAgain(t testing.TB, l *realLAN) *realLAN {
	t.Helper()
	return joinByVeth(t, l.node, l.host)
}

func (l *lan) request(target string) {
	l.t.Helper()
	l.sendTo(broadcast, codec.OperationRequest, target)
}

// sendTo sends an ARP packet about target.
func (l *lan) sendTo(to net.HardwareAddr, operation codec.Operation, target string) {
	l.t.Helper()
	p, err := codec.NewPacket(operation, askerMAC, askerIP, make(net.HardwareAddr, 6), netip.MustParseAddr(target))
	require.NoError(l.t, err)
	body, err := p.MarshalBinary()
	require.NoError(l.t, err)
	l.send(append(append(append(append([]byte{}, to...), askerMAC...), 8, 6), body...))
}

func (l *lan) send(frame []byte) {
	l.t.Helper()
	_, err := l.asker.WriteTo(frame, &packet.Addr{HardwareAddr: broadcast})
	require.NoError(l.t, err)
}

// receive returns the next ARP packet that reaches the asker.
func (l *lan) receive() codec.Packet {
	l.t.Helper()
	require.NoError(l.t, l.asker.SetDeadline(time.Now().Add(patience)))
	buffer := make([]byte, 2048)
	n, _, err := l.asker.ReadFrom(buffer)
	require.NoError(l.t, err, "nothing came")
	var p codec.Packet
	require.NoError(l.t, p.UnmarshalBinary(buffer[14:n]))
	return p
}

// memoryConn is one end of a cable in memory. It honours deadlines, and of filters only that
// what was sent to another machine than own does not pass.
type memoryConn struct {
	peer   *memoryConn
	own    net.HardwareAddr
	frames chan []byte

	mu       sync.Mutex
	deadline chan struct{} // closed when the deadline has passed
	broken   error
}

func newMemoryConn() *memoryConn {
	return &memoryConn{frames: make(chan []byte, 100), deadline: make(chan struct{})}
}

func (c *memoryConn) ReadFrom(buffer []byte) (int, net.Addr, error) {
	c.mu.Lock()
	deadline := c.deadline
	c.mu.Unlock()
	select {
	case frame := <-c.frames:
		return copy(buffer, frame), &packet.Addr{}, nil
	case <-deadline:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.broken != nil {
			return 0, nil, c.broken
		}
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *memoryConn) Send(frame []byte) error {
	_, err := c.WriteTo(frame, nil)
	return err
}

func (c *memoryConn) WriteTo(frame []byte, _ net.Addr) (int, error) {
	if own := c.peer.own; own != nil && frame[0]&1 == 0 && !bytes.Equal(frame[:6], own) {
		return len(frame), nil
	}
	select {
	case c.peer.frames <- append([]byte{}, frame...):
		return len(frame), nil
	default:
		return 0, errors.New("queue full")
	}
}

func (c *memoryConn) SetBPF([]bpf.RawInstruction) error { return nil }

func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline ends a read at once if the time has passed; later times are ignored.
func (c *memoryConn) SetDeadline(at time.Time) error {
	if time.Now().After(at) {
		c.fail(nil)
	}
	return nil
}

// fail makes the blocked read and all later ones return err.
func (c *memoryConn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = err
	select {
	case <-c.deadline:
	default:
		close(c.deadline)
	}
}

func (c *memoryConn) Close() error { return nil }

// BenchmarkOpen opens the socket of an interface that nothing was answered on, and has one that
// is open answer for an address more: the difference is what sockets that are open ahead of
// need would save a takeover.
func BenchmarkOpen(b *testing.B) {
	for _, of := range []struct {
		protocol    responder.Protocol
		first, more string
	}{{arp.Protocol{}, "203.0.113.1", "203.0.113.2"}, {ndp.Protocol{}, "2001:db8::1", "2001:db8::2"}} {
		l := vethLAN(b)
		first, both := l.with(of.first), l.with(of.first, of.more)
		b.Run(of.protocol.Name()+"/first", func(b *testing.B) {
			for b.Loop() {
				r := responder.New(responder.Options{Protocol: of.protocol})
				l.apply(r, first)
				b.StopTimer()
				r.Close()
				b.StartTimer()
			}
		})
		b.Run(of.protocol.Name()+"/more", func(b *testing.B) {
			r := responder.New(responder.Options{Protocol: of.protocol})
			defer r.Close()
			for b.Loop() {
				b.StopTimer()
				l.apply(r, first)
				b.StartTimer()
				l.apply(r, both)
			}
		})
	}
}
