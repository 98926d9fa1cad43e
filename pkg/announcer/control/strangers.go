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

// maxSources bounds the addresses that are remembered for their rate: those of nodes, and
// as many of strangers.
const maxSources = 8192

// strangers bounds the connections without a stream that was admitted. Each costs its TLS
// handshake, about a millisecond of CPU, and some tens of KiB until it is closed. What
// exceeds a bound is closed when it is accepted, before the handshake; what is not admitted
// in time is closed then. Addresses of Nodes are bounded each for itself: whatever comes
// from others, they have their share.
type strangers struct {
	limits   Limits
	patience time.Duration
	nodes    Nodes
	refused  func(remote netip.Addr)

	mu            sync.Mutex
	nodeRates     ratelimit.Keyed[netip.Addr]
	strangerRates ratelimit.Keyed[netip.Addr]
	strangerRate  ratelimit.Bucket // of all together
	waiting       map[netip.AddrPort]*connection
	perOne        map[netip.Addr]int // of waiting
	unknown       int                // of waiting, those of strangers
}

func newStrangers(limits Limits, nodes Nodes, refused func(netip.Addr)) *strangers {
	rates := ratelimit.Keyed[netip.Addr]{Limit: limits.SourceRate, Size: maxSources}
	return &strangers{
		limits: limits, nodes: nodes, refused: refused,
		patience:  handshakeTimeout + limits.HelloTimeout + limits.AuthenticateTimeout,
		nodeRates: rates, strangerRates: rates,
		waiting: map[netip.AddrPort]*connection{}, perOne: map[netip.Addr]int{},
	}
}

// connection is one that was accepted.
type connection struct {
	net.Conn
	limiter *strangers
	remote  netip.AddrPort
	known   bool // whether its address was one of a Node when it came
	timer   *time.Timer
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.limiter.leaveConnection(c.remote)
	return c.Conn.Close()
}

// listener accepts what strangers lets in.
type listener struct {
	net.Listener
	limiter *strangers
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
		if c := l.limiter.enterConnection(conn, remote, time.Now()); c != nil {
			return c, nil
		}
		_ = conn.Close()
		l.limiter.refused(remote.Addr())
	}
}

// enterConnection returns the connection to serve, or nil where a bound is reached.
func (s *strangers) enterConnection(conn net.Conn, remote netip.AddrPort, now time.Time) *connection {
	known := s.nodes.Has(remote.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mayEnterLocked(remote.Addr(), known, now) {
		return nil
	}
	c := &connection{Conn: conn, limiter: s, remote: remote, known: known}
	c.timer = time.AfterFunc(s.patience, func() { _ = conn.Close() })
	s.leaveLocked(remote) // an earlier one with the same port, of which the end was not seen yet
	s.waiting[remote] = c
	s.perOne[remote.Addr()]++
	if !known {
		s.unknown++
	}
	return c
}

func (s *strangers) mayEnterLocked(source netip.Addr, known bool, now time.Time) bool {
	switch {
	case s.perOne[source] >= s.limits.StrangersPerSource:
		return false
	case known:
		return s.nodeRates.Take(source, now)
	default:
		return s.unknown < s.limits.Strangers &&
			s.strangerRates.Take(source, now) && s.strangerRate.Take(s.limits.StrangerRate, now)
	}
}

// admitConnection counts the connection of the admitted stream whose context is ctx no longer.
func (s *strangers) admitConnection(ctx context.Context) {
	if p, ok := peer.FromContext(ctx); ok {
		s.leaveConnection(remotePort(p.Addr))
	}
}

// leaveConnection takes a connection out of those that wait.
func (s *strangers) leaveConnection(remote netip.AddrPort) {
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
