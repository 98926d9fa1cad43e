package status

import (
	"bytes"
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Any user of the node may ask, and as often as they like.
const (
	// metricsAge is for how long an answer with all metrics is given again. It is made by one
	// request at a time.
	metricsAge = time.Second
	// answersPerSecond is how many requests are answered in a second; others wait for their turn.
	answersPerSecond = 100
	// maxConnections is how many there are. One more ends the oldest, so that clients that keep
	// theirs do not keep out the kubelet's probes.
	maxConnections = 64
	// acceptsPerSecond is how many connections are taken in a second; others wait in the kernel.
	acceptsPerSecond = 1000
)

// limitRate has inner answer so many requests in a second.
func limitRate(inner http.Handler) http.Handler {
	limit := rate.NewLimiter(answersPerSecond, answersPerSecond/10)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if limit.Wait(r.Context()) == nil {
			inner.ServeHTTP(w, r)
		}
	})
}

// remembered gives the answers of a handler again for a while, to all alike.
type remembered struct {
	inner http.Handler
	now   func() time.Time

	mu     sync.Mutex
	until  time.Time
	header http.Header
	body   []byte
}

// ServeHTTP implements http.Handler. A client that reads slowly holds up no other.
func (m *remembered) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header, body := m.cachedAnswer(r)
	for name, values := range header {
		w.Header()[name] = values
	}
	_, _ = w.Write(body)
}

func (m *remembered) cachedAnswer(r *http.Request) (http.Header, []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := m.now(); !now.Before(m.until) {
		// A request that asks for nothing special: the answer is for all.
		plain := &http.Request{Method: http.MethodGet, URL: r.URL, Header: http.Header{}}
		made := recorder{header: http.Header{}}
		m.inner.ServeHTTP(&made, plain.WithContext(context.WithoutCancel(r.Context())))
		m.header, m.body, m.until = made.header, made.body.Bytes(), now.Add(metricsAge)
	}
	return m.header, m.body
}

// recorder takes what a handler answers; the one there is does not fail.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

var _ http.ResponseWriter = (*recorder)(nil)

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(int)             {}
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// connections are those that there are, the oldest first.
type connections struct {
	mu    sync.Mutex
	order *list.List
	known map[net.Conn]*list.Element
}

func newConnections() *connections {
	return &connections{order: list.New(), known: map[net.Conn]*list.Element{}}
}

// connChanged follows a connection's state, and closes the oldest where there are too many.
func (c *connections) connChanged(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if oldest := c.addConn(conn); oldest != nil {
			_ = oldest.Close()
		}
	case http.StateClosed, http.StateHijacked:
		c.removeConn(conn)
	}
}

// addConn takes in a connection, and returns the one to close for it, if any.
func (c *connections) addConn(conn net.Conn) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[conn] = c.order.PushBack(conn)
	if c.order.Len() <= maxConnections {
		return nil
	}
	oldest := c.order.Front().Value.(net.Conn)
	c.dropConn(oldest)
	return oldest
}

func (c *connections) removeConn(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropConn(conn)
}

// dropConn is called with the lock held.
func (c *connections) dropConn(conn net.Conn) {
	if known := c.known[conn]; known != nil {
		c.order.Remove(known)
		delete(c.known, conn)
	}
}

// slowly is a listener that takes so many connections in a second.
type slowly struct {
	net.Listener
	ctx   context.Context
	limit *rate.Limiter
}

func (l slowly) Accept() (net.Conn, error) {
	_ = l.limit.Wait(l.ctx) // Once that is done the listener is about to be closed.
	return l.Listener.Accept()
}
