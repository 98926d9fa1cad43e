package sight

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer is asked for so that nothing is lost while the process waits for a
	// processor; the kernel may grant less.
	receiveBuffer = 1 << 20
	// trafficClass is CS6, network control, which switches and qdiscs prefer; priority is
	// the socket's, the highest that needs no privilege.
	trafficClass = 0xc0
	priority     = 6
	// hopLimit keeps datagrams on the segment.
	hopLimit = 1
)

// Now returns the time by the clock that all of this package uses: it goes on while the
// machine sleeps, and nobody sets it.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("read CLOCK_BOOTTIME: %v", err)) // There since Linux 2.6.39.
	}
	return time.Duration(ts.Nano())
}

// Socket tells the sockets of a Network apart: there is one for each interface and family.
type Socket struct {
	// Index and Name are the interface's.
	Index int
	Name  string
	IPv6  bool
}

// Network sends and receives datagrams. Set, Send and Close are called by one owner.
type Network struct {
	receive func(Packet)
	failed  func()
	ring    atomic.Pointer[Keyring]
	open    map[Socket]*conn
	readers sync.WaitGroup

	mu      sync.Mutex
	dropped map[error]uint64
}

type conn struct {
	*net.UDPConn
	broken atomic.Bool
}

// NewNetwork returns a Network without sockets. It calls receive, from goroutines of its
// own, with each packet that its keyring opens, and failed when a socket broke, which the
// next Set opens anew.
func NewNetwork(receive func(Packet), failed func()) *Network {
	n := &Network{receive: receive, failed: failed, open: map[Socket]*conn{}, dropped: map[error]uint64{}}
	n.ring.Store(NewKeyring("", nil))
	return n
}

// Set makes wanted the open sockets, in the calling thread's network namespace, and ring
// what opens datagrams. The error joins one for each socket that could not be opened.
func (n *Network) Set(ring *Keyring, wanted map[Socket]bool) error {
	n.ring.Store(ring)
	for s, c := range n.open {
		if !wanted[s] || c.broken.Load() {
			_ = c.Close()
			delete(n.open, s)
		}
	}
	var failures []error
	for s := range wanted {
		if n.open[s] != nil {
			continue
		}
		c, err := listen(s)
		if err != nil {
			failures = append(failures, fmt.Errorf("sight on %s: %w", s.Name, err))
			continue
		}
		n.open[s] = c
		n.readers.Go(func() { n.read(c) })
	}
	return errors.Join(failures...)
}

// listen opens a socket that is bound to its interface.
func listen(s Socket) (*conn, error) {
	network, address := "udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), Port)
	if s.IPv6 {
		network, address = "udp6", netip.AddrPortFrom(netip.IPv6Unspecified(), Port)
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if failed := raw.Control(func(fd uintptr) { err = prepare(int(fd), s) }); failed != nil {
			return failed
		}
		return err
	}}
	c, err := config.ListenPacket(context.Background(), network, address.String())
	if err != nil {
		return nil, err
	}
	return &conn{UDPConn: c.(*net.UDPConn)}, nil
}

// prepare sets what a socket needs before it is bound.
func prepare(fd int, s Socket) error {
	if err := unix.BindToDevice(fd, s.Name); err != nil {
		return fmt.Errorf("bind to device: %w", err)
	}
	level, class, limit := unix.IPPROTO_IP, unix.IP_TOS, unix.IP_TTL
	if s.IPv6 {
		level, class, limit = unix.IPPROTO_IPV6, unix.IPV6_TCLASS, unix.IPV6_UNICAST_HOPS
	}
	return errors.Join(
		unix.SetsockoptInt(fd, level, class, trafficClass),
		unix.SetsockoptInt(fd, level, limit, hopLimit),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, priority),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer),
	)
}

// read takes datagrams until the socket is closed or fails.
func (n *Network) read(c *conn) {
	buffer := make([]byte, maxDatagram+1)
	for {
		size, _, err := c.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			c.broken.Store(true)
			n.failed()
			return
		}
		p, err := n.ring.Load().Open(buffer[:size])
		if err != nil {
			n.Drop(err)
			continue
		}
		n.receive(p)
	}
}

// Send sends a datagram. Who is not there is no error.
func (n *Network) Send(from Socket, to netip.AddrPort, datagram []byte) error {
	c := n.open[from]
	if c == nil {
		return fmt.Errorf("sight on %s: no socket", from.Name)
	}
	_, err := c.WriteToUDPAddrPort(datagram, to)
	return err
}

// Drop counts a datagram that did not count, by its error; anybody may call it.
func (n *Network) Drop(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropped[err]++
}

// Dropped returns how many datagrams did not count, by one of DropCauses.
func (n *Network) Dropped() map[string]uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[string]uint64, len(n.dropped))
	for err, count := range n.dropped {
		out[err.Error()] = count
	}
	return out
}

// Close closes all sockets and returns once their readers have ended.
func (n *Network) Close() {
	for s, c := range n.open {
		_ = c.Close()
		delete(n.open, s)
	}
	n.readers.Wait()
}
