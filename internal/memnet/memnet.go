// Package memnet gives tests a network in memory that works inside a testing/synctest
// bubble: a goroutine that waits for it is durably blocked, and its deadlines follow the bubble's
// clock.
//
// It never makes a timer that is due at once, as the in-memory network of gRPC does for each
// connection, and when TLS closes one. Under the race detector a bubble whose goroutines make
// such timers at the same time crashes the Go runtime now and then (golang/go issue 78156).
package memnet

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// room is how many bytes a direction of a connection holds until its writer has to wait.
const room = 64 << 10

// Listener accepts the connections that are dialled to it.
type Listener struct {
	incoming chan net.Conn
	closed   chan struct{}
	close    func()
}

// Listen returns a Listener. The caller closes it.
func Listen() *Listener {
	l := &Listener{incoming: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// DialContext connects, once the connection is accepted.
func (l *Listener) DialContext(ctx context.Context) (net.Conn, error) {
	near, far := Pipe()
	return l.connect(ctx, near, far)
}

// DialFrom connects as from an address, which the accepted end has as its remote one.
func (l *Listener) DialFrom(ctx context.Context, from netip.AddrPort) (net.Conn, error) {
	near, far := Pipe()
	return l.connect(ctx, near, comes{far, from})
}

// comes is the accepted end of a connection from somewhere.
type comes struct {
	net.Conn
	from netip.AddrPort
}

func (c comes) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.from) }

func (l *Listener) connect(ctx context.Context, near, far net.Conn) (net.Conn, error) {
	select {
	case l.incoming <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept returns the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.incoming:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. It does not end connections.
func (l *Listener) Close() error {
	l.close()
	return nil
}

// Addr returns an address that says where this is.
func (l *Listener) Addr() net.Addr { return address{} }

// Pipe returns the two ends of a connection. Unlike net.Pipe's they have buffers: a writer
// waits for the reader only when those are full.
func Pipe() (near, far net.Conn) {
	a, b := newDirection(), newDirection()
	return &conn{reads: a, writes: b}, &conn{reads: b, writes: a}
}

type conn struct{ reads, writes *direction }

func (c *conn) Read(p []byte) (int, error)  { return c.reads.read(p) }
func (c *conn) Write(p []byte) (int, error) { return c.writes.write(p) }

func (c *conn) Close() error {
	c.reads.end(io.ErrClosedPipe, io.ErrClosedPipe)
	c.writes.end(io.EOF, io.ErrClosedPipe)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.reads.set(&c.reads.readBy, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writes.set(&c.writes.writeBy, t)
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) LocalAddr() net.Addr  { return address{} }
func (c *conn) RemoteAddr() net.Addr { return address{} }

type address struct{}

func (address) Network() string { return "memory" }
func (address) String() string  { return "memory" }

// direction is what one end of a connection writes and the other one reads.
type direction struct {
	mu      sync.Mutex
	changed *sync.Cond
	buffer  bytes.Buffer
	// readEnd and writeEnd are what reads, once the buffer is empty, and writes come to when
	// an end was closed.
	readEnd, writeEnd error
	readBy, writeBy   deadline
}

// deadline is when a read or a write gives up.
type deadline struct {
	timer  *time.Timer
	passed bool
}

func newDirection() *direction {
	d := &direction{}
	d.changed = sync.NewCond(&d.mu)
	return d
}

func (d *direction) read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case d.readBy.passed:
			return 0, os.ErrDeadlineExceeded
		case d.buffer.Len() > 0 && d.readEnd != io.ErrClosedPipe:
			d.changed.Broadcast()
			return d.buffer.Read(p)
		case d.readEnd != nil:
			return 0, d.readEnd
		}
		d.changed.Wait()
	}
}

func (d *direction) write(p []byte) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case d.writeEnd != nil:
			return n, d.writeEnd
		case d.writeBy.passed:
			return n, os.ErrDeadlineExceeded
		}
		part := p[:min(len(p), room-d.buffer.Len())]
		d.buffer.Write(part)
		d.changed.Broadcast()
		if n, p = n+len(part), p[len(part):]; len(p) == 0 {
			return n, nil
		}
		d.changed.Wait()
	}
}

// end makes reads and writes come to an end, unless they have.
func (d *direction) end(read, write error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.readEnd == nil || read == io.ErrClosedPipe {
		d.readEnd = read
	}
	d.writeEnd = write
	d.changed.Broadcast()
}

// set replaces a deadline of d.
func (d *direction) set(by *deadline, t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if by.timer != nil {
		by.timer.Stop()
	}
	left := time.Until(t)
	*by = deadline{passed: !t.IsZero() && left <= 0}
	if by.passed {
		d.changed.Broadcast()
	}
	if t.IsZero() || by.passed {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if by.timer == timer { // it was not replaced since
			by.passed = true
			d.changed.Broadcast()
		}
	})
	by.timer = timer
}
