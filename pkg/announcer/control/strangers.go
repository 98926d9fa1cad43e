package control

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/peer"

	"baremetal.cloud/ccm/internal/ratelimit"
)

// Bounds on connections that have not proven yet who they are. A connection costs its TLS
// handshake, about a millisecond of CPU, and some tens of KiB until it is closed.
const (
	// maxSources bounds the addresses that are remembered for their rate, maxKnown those
	// that had a stream.
	maxSources = 4096
	maxKnown   = 8192
)

// strangers bounds the connections without a stream that was admitted. What exceeds a
// bound is closed when it is accepted, before the handshake; what is not admitted in time
// is closed then.
type strangers struct {
	limits   Limits
	patience time.Duration
	refused  func(remote netip.Addr)

	mu      sync.Mutex
	rates   ratelimit.Keyed[netip.Addr]
	rate    ratelimit.Bucket
	waiting map[netip.AddrPort]*connection
	perOne  map[netip.Addr]int // of waiting
	unknown int                // of waiting, those of addresses that never had a stream
	known   map[netip.Addr]struct{}
}

func newStrangers(limits Limits, refused func(netip.Addr)) *strangers {
	return &strangers{
		limits: limits, refused: refused,
		patience: handshakeTimeout + limits.HelloTimeout + limits.AuthenticateTimeout,
		rates:    ratelimit.Keyed[netip.Addr]{Limit: limits.SourceRate, Size: maxSources},
		waiting:  map[netip.AddrPort]*connection{}, perOne: map[netip.Addr]int{}, known: map[netip.Addr]struct{}{},
	}
}

// connection is one that was accepted.
type connection struct {
	net.Conn
	door   *strangers
	remote netip.AddrPort
	known  bool // whether its address had a stream when it came
	timer  *time.Timer
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.door.leave(c.remote)
	return c.Conn.Close()
}

// listener accepts what strangers lets in.
type listener struct {
	net.Listener
	door *strangers
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		remote := remotePort(conn.RemoteAddr())
		if !remote.IsValid() { // no TCP: a test's
			return conn, nil
		}
		if c := l.door.enter(conn, remote, time.Now()); c != nil {
			return c, nil
		}
		_ = conn.Close()
		l.door.refused(remote.Addr())
	}
}

// enter returns the connection as it is to be served, or nil where a bound is reached.
func (s *strangers) enter(conn net.Conn, remote netip.AddrPort, now time.Time) *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	source := remote.Addr()
	_, known := s.known[source]
	if s.perOne[source] >= s.limits.StrangersPerSource || !known && s.unknown >= s.limits.Strangers {
		return nil
	}
	if !known && !s.rate.Take(s.limits.StrangerRate, now) || !s.rates.Take(source, now) {
		return nil
	}
	c := &connection{Conn: conn, door: s, remote: remote, known: known}
	c.timer = time.AfterFunc(s.patience, func() { _ = conn.Close() })
	s.leaveLocked(remote) // an earlier one with the same port, of which the end was not seen yet
	s.waiting[remote] = c
	s.perOne[source]++
	if !known {
		s.unknown++
	}
	return c
}

// admitted notes that the stream whose context is ctx was admitted: its connection is none
// of a stranger any longer, and its address comes back as it likes.
func (s *strangers) admitted(ctx context.Context) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return
	}
	remote := remotePort(p.Addr)
	s.leave(remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxKnown {
		clear(s.known)
	}
	s.known[remote.Addr()] = struct{}{}
}

// leave takes a connection out of those that wait.
func (s *strangers) leave(remote netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(remote)
}

func (s *strangers) leaveLocked(remote netip.AddrPort) {
	c := s.waiting[remote]
	if c == nil {
		return
	}
	c.timer.Stop()
	delete(s.waiting, remote)
	if s.perOne[remote.Addr()]--; s.perOne[remote.Addr()] == 0 {
		delete(s.perOne, remote.Addr())
	}
	if !c.known {
		s.unknown--
	}
}

// len is the number of connections that wait.
func (s *strangers) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// remotePort is the address that a connection comes from, as Nodes write it, with its port;
// it is not valid where the connection is none of TCP.
func remotePort(address net.Addr) netip.AddrPort {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	port := tcp.AddrPort()
	return netip.AddrPortFrom(port.Addr().Unmap().WithZone(""), port.Port())
}
