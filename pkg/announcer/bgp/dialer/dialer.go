package dialer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// strangerPause is how long a connection that is not of this process holds up the next one.
const strangerPause = time.Millisecond

// Options are what a Dialer needs.
type Options struct {
	// OnState is called after the State has changed. It must not block.
	OnState func()
	// OnConnected is called when there is a connection to the router, with the node's address of
	// it. The router hears nothing before it returns, which it does once ctx is done.
	OnConnected func(ctx context.Context, local netip.Addr)
}

// State is how a session fares.
type State struct {
	Phase plan.BGPState
	// Router is what the router offered, if Phase is BGPOpenConfirm or BGPEstablished.
	Router Open
	// Received counts the prefixes that the router announced in the session.
	Received uint64
	// Losses counts the ends of established sessions that the node did not want.
	Losses uint64
	// End is why the session is not established; the zero End where that is not known yet.
	End End
}

// Dialer keeps the connection to one router, for one gobgp.
type Dialer struct {
	options  Options
	listener *net.TCPListener
	// dial connects to the router.
	dial func(context.Context, Config) (net.Conn, error)
	// received counts for State.Received.
	received atomic.Uint64

	mu     sync.Mutex
	config Config
	state  State
	// established is that a session was established once.
	established bool
	current     *relay
	// end is why current has to end, once it has.
	end *End
}

// New returns a Dialer that listens on the loopback, and does nothing before Run.
func New(c Config, o Options) (*Dialer, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for gobgp: %w", err)
	}
	return &Dialer{options: o, listener: l.(*net.TCPListener), dial: dial, config: c, state: State{Phase: plan.BGPIdle}}, nil
}

// Address is where gobgp has to connect to.
func (d *Dialer) Address() netip.AddrPort { return d.listener.Addr().(*net.TCPAddr).AddrPort() }

// Run serves until ctx is done. Without another word to the router it ends the session then.
func (d *Dialer) Run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	// Not by context.AfterFunc: on a busy machine that begins after Run has seen the end, and is
	// stopped before.
	defer func() { _ = d.listener.Close() }()
	conns := make(chan *net.TCPConn)
	group.Go(func() { d.accept(ctx, conns) })
	for {
		select {
		case <-ctx.Done():
			return
		case conn := <-conns:
			d.serve(ctx, conn)
		}
	}
}

// accept takes the connections of gobgp, and closes all others unread.
func (d *Dialer) accept(ctx context.Context, conns chan<- *net.TCPConn) {
	for {
		conn, err := d.listener.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return
		case err != nil: // Out of descriptors, for example.
			wait(ctx, upkeep)
			continue
		case !ownOther(conn):
			_ = conn.SetLinger(0)
			_ = conn.Close()
			wait(ctx, strangerPause)
			continue
		}
		select {
		case conns <- conn:
		case <-ctx.Done():
			_ = conn.Close()
			return
		}
	}
}

// serve is one session, from gobgp's connection to its end.
func (d *Dialer) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.mu.Lock()
	r := &relay{dialer: d, config: d.config, inner: conn, ctx: ctx, cancel: cancel, timeout: openTimeout}
	d.current, d.end = r, nil
	d.state.Phase = plan.BGPActive
	d.mu.Unlock()
	d.options.OnState()
	end := r.run()
	d.over(end)
}

// over notes the end of a session.
func (d *Dialer) over(end End) {
	d.mu.Lock()
	if d.end != nil {
		end = *d.end
	}
	if d.state.Phase == plan.BGPEstablished && end.Reason != "" {
		d.state.Losses++
	}
	if d.state.Phase != plan.BGPActive || end.Reason != "" {
		d.state.End = end
	}
	d.state.Phase, d.state.Router, d.current = plan.BGPIdle, Open{}, nil
	d.received.Store(0)
	d.mu.Unlock()
	d.options.OnState()
}

// advance notes how far the session is.
func (d *Dialer) advance(phase plan.BGPState, router Open) {
	d.mu.Lock()
	d.state.Phase, d.state.Router = phase, router
	if phase == plan.BGPEstablished {
		d.state.End, d.established = End{}, true
	}
	d.mu.Unlock()
	d.options.OnState()
}

// State returns how the session fares.
func (d *Dialer) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.state
	s.Received = d.received.Load()
	if d.end != nil && d.current != nil {
		// It ends as soon as its goroutines see that: what is established is another one.
		s.Phase, s.Router, s.End = plan.BGPIdle, Open{}, *d.end
	}
	return s
}

func (d *Dialer) wasEstablished() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.established
}

// settings returns what the session is now.
func (d *Dialer) settings() Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config
}

// connect returns a connection to the router, which it tries to open until ctx is done; then it
// returns nil.
func (d *Dialer) connect(ctx context.Context) net.Conn {
	for {
		c := d.settings()
		conn, err := d.dial(ctx, c)
		if err == nil {
			return conn
		}
		if ctx.Err() != nil {
			return nil
		}
		d.failed(c, err)
		wait(ctx, jitter(c.ConnectRetry))
	}
}

// failed notes that no connection came about.
func (d *Dialer) failed(c Config, err error) {
	message := fmt.Sprintf("%.200s", err)
	if c.Password != "" {
		message += "; a router with another password looks the same"
	}
	d.mu.Lock()
	before := d.state.End
	d.state.End = End{reason.PeerUnreachable, message}
	same := before == d.state.End
	d.mu.Unlock()
	if !same {
		d.options.OnState()
	}
}

// wait waits for d, or until ctx is done.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// jitter returns three quarters of interval at least (RFC 4271 section 10).
func jitter(interval time.Duration) time.Duration {
	return interval - time.Duration(rand.Int64N(int64(interval/4)+1)) //nolint:gosec // No secret.
}
