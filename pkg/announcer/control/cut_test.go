package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// shears cut a connection after a number of bytes.
type shears struct{ sent, received atomic.Int64 } // how many may still pass

// open lets everything pass.
func (s *shears) open() {
	s.sent.Store(1 << 40)
	s.received.Store(1 << 40)
}

// snip reports how much of n bytes may pass, and whether the connection is cut there.
func snip(left *atomic.Int64, n int) (pass int, cut bool) {
	rest := left.Add(-int64(n))
	if rest > 0 {
		return n, false
	}
	return max(0, n+int(rest)), true
}

// shearedConn is the node's end of a connection.
type shearedConn struct {
	net.Conn
	*shears
}

var errCut = errors.New("cut")

func (c shearedConn) Write(p []byte) (int, error) {
	pass, cut := snip(&c.sent, len(p))
	n, err := c.Conn.Write(p[:pass])
	if cut {
		c.Close()
		return n, errCut
	}
	return n, err
}

func (c shearedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	pass, cut := snip(&c.received, n)
	if cut {
		c.Close()
		return pass, errCut
	}
	return n, err
}

// sheared runs f with a node whose connections go through shears.
func sheared(t *testing.T, f func(b *bubble, s *shears)) {
	s := &shears{}
	s.open()
	inBubble(t, func(b *bubble) {
		b.dialBy(func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := b.wire.dial(ctx, address)
			return shearedConn{conn, s}, err
		})
		b.reconnect(t)
		f(b, s)
		s.open()
	})
}

// reconnect ends the stream by a dead wire, and waits for the next one.
func (b *bubble) reconnect(t *testing.T) {
	b.wire.cut()
	b.settle(t)
}

// settle waits until the node's stream stands.
func (b *bubble) settle(t *testing.T) {
	t.Helper()
	time.Sleep(keepaliveTime + keepaliveTimeout + 2*backoffMax)
	synctest.Wait()
	streams := b.streams()
	require.True(t, streams[len(streams)-1], "the node came back")
}

func (b *bubble) plan() plan.NodePlan {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.plans[len(b.plans)-1]
}

// TestPlanCutAtEveryByte: the node keeps the plan that it had, or has all of the new one;
// and it has all of it when it is back.
func TestPlanCutAtEveryByte(t *testing.T) {
	var addresses []string
	for i := range 40 { // more than one TLS record
		addresses = append(addresses, fmt.Sprintf("192.0.2.%d", i))
	}
	sheared(t, func(b *bubble, s *shears) {
		revision := uint64(1)
		b.server.Publish(plans{"a": set(1, revision)})
		synctest.Wait()
		at := int64(1)
		for through := false; !through; at++ {
			old := b.plan()
			revision++
			want := set(1, revision, addresses...)
			s.received.Store(at)
			b.server.Publish(plans{"a": want})
			synctest.Wait()
			if through = b.plan().Version == want.Version; !through {
				require.Equal(t, old, b.plan(), "cut after byte %d", at)
			}
			s.open()
			b.settle(t)
			require.Equal(t, want, b.plan(), "cut after byte %d", at)
			revision++
			b.server.Publish(plans{"a": set(1, revision)})
			synctest.Wait()
			require.Less(t, at, int64(1<<14))
		}
		require.Greater(t, at, int64(40*20), "every byte of 40 announcements")
	})
}

// TestReportCutAtEveryByte: the replica knows what the node said before, or all that it says
// now; nothing half, and nothing that it calls malformed.
func TestReportCutAtEveryByte(t *testing.T) {
	want := claims()
	for i := range 20 {
		want.Claims = want.Claims.With(claims(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String()).Claims.Nth(0))
	}
	sheared(t, func(b *bubble, s *shears) {
		at := int64(1)
		for through := false; !through; at++ {
			b.client.SetReport(claims())
			synctest.Wait()
			seen := len(b.history("a"))
			s.sent.Store(at)
			b.client.SetReport(want)
			synctest.Wait()
			through = slices.Contains(b.history("a")[seen:], "reported")
			if !through {
				require.Empty(t, b.last("a").Claims, "cut after byte %d", at)
			}
			s.open()
			b.settle(t)
			require.Equal(t, want, b.last("a"), "cut after byte %d", at)
			require.Less(t, at, int64(1<<14))
		}
		require.Greater(t, at, int64(20*8), "every byte of 20 claims")
		require.Zero(t, b.server.Counters().Refused[CauseMalformed])
	})
}

// TestConnectCutAtEveryByte, from the first byte of the handshake to the last one of Hello:
// the replica takes the stream whole or not at all, and the next attempt succeeds.
func TestConnectCutAtEveryByte(t *testing.T) {
	sheared(t, func(b *bubble, s *shears) {
		b.client.SetReport(claims("192.0.2.1"))
		at := int64(1)
		for through := false; !through; at++ {
			b.wire.setDown(true)
			b.wire.cut()
			time.Sleep(keepaliveTime + keepaliveTimeout + backoffMax)
			synctest.Wait()
			seen := len(b.streams())
			s.sent.Store(at)
			b.wire.setDown(false)
			time.Sleep(backoffMax)
			synctest.Wait()
			through = len(b.streams()) > seen
			s.open()
			b.settle(t)
			require.Equal(t, claims("192.0.2.1"), b.last("a"), "cut after byte %d", at)
			require.Less(t, at, int64(1<<14))
		}
		require.Greater(t, at, int64(500), "every byte of a handshake and Hello")
		require.Zero(t, b.server.Counters().Refused[CauseMalformed])
	})
}
