package control

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"baremetal.cloud/ccm/internal/memnet"
)

// memoryListener is a network of one machine that lives inside a synctest bubble. Every
// connection seems to come from 192.0.2.10.
type memoryListener struct {
	*memnet.Listener
	dials atomic.Int64
	from  netip.Addr // where its connections seem to come from, each from another port
	apart bool       // and from another address

	mu    sync.Mutex
	conns []*memoryConn
	down  bool
}

func newMemoryListener() *memoryListener {
	return &memoryListener{Listener: memnet.Listen(), from: netip.MustParseAddr("192.0.2.10")}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(conn), nil
}

func (l *memoryListener) dial(ctx context.Context, _ string) (net.Conn, error) {
	l.dials.Add(1)
	if l.isDown() {
		return nil, errors.New("connection refused")
	}
	conn, err := l.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	return l.wrap(conn), nil
}

func (l *memoryListener) wrap(conn net.Conn) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &memoryConn{Conn: conn, remote: netip.AddrPortFrom(l.from, uint16(1024+len(l.conns)))}
	l.conns = append(l.conns, c)
	if l.apart {
		l.from = l.from.Next()
	}
	return c
}

func (l *memoryListener) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

// setDown refuses new connections, or accepts them again.
func (l *memoryListener) setDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

// cut makes every connection lose what is written to it from now on, without a word: the
// cable was pulled.
func (l *memoryListener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.lost.Store(true)
	}
}

// end closes the connections whose ends never heard of each other's close.
func (l *memoryListener) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Conn.Close()
	}
}

type memoryConn struct {
	net.Conn
	remote netip.AddrPort
	lost   atomic.Bool
}

func (c *memoryConn) Write(p []byte) (int, error) {
	if c.lost.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *memoryConn) Close() error {
	if c.lost.Load() {
		return nil // the other side does not hear of it; the test ends the pipe
	}
	return c.Conn.Close()
}

func (c *memoryConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(c.remote)
}
