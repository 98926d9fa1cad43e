package control

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

func TestBackoff(t *testing.T) {
	for _, tt := range []struct {
		failures int
		limit    time.Duration
		random   float64
		want     time.Duration
	}{
		{1, backoffMax, 0, 50 * time.Millisecond},
		{1, backoffMax, 1, 100 * time.Millisecond},
		{3, backoffMax, 0.5, 300 * time.Millisecond},
		{1000000, backoffMax, 1, 5 * time.Second},
		{1000000, backoffRefused, 0, 7500 * time.Millisecond},
	} {
		require.Equal(t, tt.want, backoffPause(tt.failures, tt.limit, tt.random), "%+v", tt)
	}
}

// bubble is a replica and a node in one synctest bubble, joined by memory.
type bubble struct {
	*recorder
	server *Server
	client *Client
	wire   *memoryListener
	dns    *names
	leave  func() error // stops the node
	dialer atomic.Pointer[dial]

	mu    sync.Mutex
	ups   []bool
	plans []plan.NodePlan
}

type dial func(ctx context.Context, address string) (net.Conn, error)

// dialBy has the node, which may be dialling just now, dial by d.
func (b *bubble) dialBy(d dial) { b.dialer.Store(&d) }

// inBubble runs f with both halves running and the node's stream up.
func inBubble(t *testing.T, f func(*bubble)) {
	a := newAuthority(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca"), a.ca, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("pod"), 0o600))
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{recorder: newRecorder(), wire: newMemoryListener(), dns: &names{}}
		b.dns.set(nil, "192.0.2.1")
		b.server = NewServer(ServerOptions{Authenticator: authFunc(tokenNamesPod), Observer: b.recorder})
		b.client = NewClient(ClientOptions{
			Node: "a", Controllers: []string{"ccm:1"}, ServerName: "baremetal-ccm",
			CAFile: filepath.Join(dir, "ca"), TokenFile: filepath.Join(dir, "token"),
			OnStream: func(_ string, up bool) {
				b.mu.Lock()
				defer b.mu.Unlock()
				b.ups = append(b.ups, up)
			},
			OnPlan: func(_ string, s plan.NodePlan) {
				b.mu.Lock()
				defer b.mu.Unlock()
				s.Voucher = plan.Voucher{} // what was sent
				b.plans = append(b.plans, s)
			},
		})
		b.dialBy(b.wire.dial)
		b.client.options.Dial = func(ctx context.Context, address string) (net.Conn, error) { return (*b.dialer.Load())(ctx, address) }
		b.client.lookup = b.dns.lookup
		b.client.SetReport(plan.Report{})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = b.server.Run(ctx, b.wire, &tls.Config{Certificates: []tls.Certificate{a.server}}) })
		b.leave = start(t, b.client.Run)
		synctest.Wait()
		require.Equal(t, []bool{true}, b.streams())
		f(b)
		require.NoError(t, b.leave())
		cancel()
		b.wire.end()
		running.Wait()
		require.Empty(t, b.faults)
	})
}

func (b *bubble) streams() []bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]bool(nil), b.ups...)
}

// TestDeadPeer: when the cable is pulled both sides notice within 15 s, and the node
// comes back as soon as there is a way.
func TestDeadPeer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		time.Sleep(maxAge / 2) // synctest's clock; an idle stream lives
		synctest.Wait()
		require.Equal(t, []bool{true}, b.streams())
		require.Equal(t, []string{"connected"}, b.history("a"))

		b.wire.cut()
		b.wire.setDown(true)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Equal(t, []bool{true, false}, b.streams())
		require.Equal(t, []string{"connected", "disconnected"}, b.history("a"))

		b.wire.setDown(false)
		time.Sleep(backoffMax)
		synctest.Wait()
		require.Equal(t, []bool{true, false, true}, b.streams())
	})
}

// TestRetriesAreFew: an hour without replicas costs a dial every few seconds.
func TestRetriesAreFew(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.wire.setDown(true)
		b.wire.cut()
		time.Sleep(time.Hour)
		dials := b.wire.dials.Load()
		require.Greater(t, dials, int64(3600/5-10))
		require.Less(t, dials, int64(2*3600/5))
	})
}

// names is a DNS whose answers the test sets.
type names struct {
	mu    sync.Mutex
	addrs []netip.Addr
	err   error
	asked int
}

func (n *names) set(err error, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs, n.err = nil, err
	for _, a := range addrs {
		n.addrs = append(n.addrs, netip.MustParseAddr(a))
	}
}

func (n *names) lookup(context.Context, string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	return n.addrs, n.err
}

func (n *names) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

// TestResolve: new addresses are dialled, those that are gone are given up unless their
// stream is up, and a DNS that fails changes nothing.
func TestResolve(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca"), a.ca, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("pod"), 0o600))
	synctest.Test(t, func(t *testing.T) {
		dns := &names{}
		dns.set(errors.New("no such host"))
		var mu sync.Mutex
		dialled := map[string]int{}
		take := func() map[string]int {
			mu.Lock()
			defer mu.Unlock()
			taken := dialled
			dialled = map[string]int{}
			return taken
		}
		c := NewClient(ClientOptions{
			Node: "a", Controllers: []string{"ccm:1"}, ServerName: "baremetal-ccm", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			CAFile: filepath.Join(dir, "ca"), TokenFile: filepath.Join(dir, "token"),
		})
		c.lookup = dns.lookup
		c.options.Dial = func(_ context.Context, address string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dialled[address]++
			return nil, errors.New("connection refused")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		time.Sleep(time.Minute)
		require.Zero(t, dns.count(), "asked before the first report")
		c.SetReport(plan.Report{})
		time.Sleep(time.Minute)
		require.InDelta(t, 20, dns.count(), 2)

		dns.set(nil, "::ffff:192.0.2.1", "192.0.2.1", "2001:db8::1")
		time.Sleep(time.Minute)
		first := take()
		require.Len(t, first, 2)
		require.NotZero(t, first["192.0.2.1:1"])
		require.NotZero(t, first["[2001:db8::1]:1"])

		dns.set(errors.New("server misbehaving"))
		time.Sleep(time.Minute)
		require.Len(t, take(), 2)

		dns.set(nil, "192.0.2.1")
		time.Sleep(10 * time.Second)
		take()
		time.Sleep(time.Minute)
		require.Len(t, take(), 1)
		cancel()
		require.NoError(t, <-done)
	})
}

// TestStreamOutlivesItsName: an address that is gone from DNS keeps its stream, and names
// are looked up every 30 s while all is well.
func TestStreamOutlivesItsName(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.dns.set(nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, []bool{true}, b.streams())
		require.InDelta(t, 20, b.dns.count(), 1)
		b.server.Publish(plans{"a": set(1, 1, "192.0.2.1")})
		synctest.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		require.Len(t, b.plans, 1)
	})
}

// TestLeavingDeadReplica takes little longer than leaveTimeout, and leaving a live one no time.
func TestLeavingDeadReplica(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.wire.cut()
		began := time.Now()
		require.NoError(t, b.leave())
		// gRPC takes a moment of its own to close a connection that is dead.
		require.LessOrEqual(t, time.Since(began), leaveTimeout+time.Second)
	})
	inBubble(t, func(b *bubble) {
		began := time.Now()
		require.NoError(t, b.leave())
		require.Zero(t, time.Since(began))
		require.Equal(t, []bool{true, false}, b.streams())
		require.Equal(t, []string{"connected", "disconnected"}, b.history("a"))
	})
}
