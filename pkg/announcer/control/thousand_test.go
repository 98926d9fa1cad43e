package control

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/ratelimit"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// heap is what is in use after everything unused has gone.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestFault_K1_6_AThousandReconnect at once, half of them from one address, to a replica that
// has just started and knows none of them. All are in within 30 s.
func TestFault_K1_6_AThousandReconnect(t *testing.T) {
	const count, reviewsAtOnce, review = 1000, 16, 40 * time.Millisecond
	a := newAuthority(t)
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca"), filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(ca, a.ca, 0o600))
	require.NoError(t, os.WriteFile(token, []byte("pod"), 0o600))
	synctest.Test(t, func(t *testing.T) {
		asking := make(chan struct{}, reviewsAtOnce)
		server := NewServer(ServerOptions{Observer: newRecorder(), Authenticator: authFunc(
			func(ctx context.Context, token, node string, remote netip.Addr) (Identity, error) {
				select {
				case asking <- struct{}{}:
				case <-ctx.Done():
					return Identity{}, ctx.Err()
				}
				time.Sleep(review) // three requests, of an API server that has much to do
				<-asking
				return tokenNamesPod(ctx, token, node, remote)
			})})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		together, apart := newMemoryListener(), newMemoryListener()
		apart.from, apart.apart = netip.MustParseAddr("10.0.0.0"), true
		for _, l := range []*memoryListener{together, apart} {
			running.Go(func() { _ = server.Run(ctx, l, &tls.Config{Certificates: []tls.Certificate{a.server}}) })
		}
		began := time.Now()
		for i := range count {
			c := NewClient(ClientOptions{
				Node: fmt.Sprint("node", i), Controllers: []string{"192.0.2.1:1"}, ServerName: "baremetal-ccm", CAFile: ca, TokenFile: token,
			})
			c.options.Dial = together.dial
			if i%2 == 0 {
				c.options.Dial = apart.dial
			}
			c.SetReport(plan.Report{})
			running.Go(func() { _ = c.Run(ctx) })
		}
		for server.Counters().Silent < count && time.Since(began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		t.Log("all in after", time.Since(began))
		require.Equal(t, count, server.Counters().Silent)
		require.LessOrEqual(t, time.Since(began), 30*time.Second)
		cancel()
		together.end()
		apart.end()
		running.Wait()
	})
}

// TestSlowAndDeadAmongAThousand: one node does not read and one is dead. Every other node has
// each plan before any time passes; what the two are not told costs the memory of a plan or
// two; the dead one is noticed within 15 s, and the slow one gets the newest plan in the end.
func TestSlowAndDeadAmongAThousand(t *testing.T) {
	const count, revisions = 1000, 15
	a := newAuthority(t)
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca"), filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(ca, a.ca, 0o600))
	require.NoError(t, os.WriteFile(token, []byte("pod"), 0o600))
	synctest.Test(t, func(t *testing.T) {
		seen := newRecorder()
		server := NewServer(ServerOptions{
			Authenticator: authFunc(tokenNamesPod), Observer: seen, Limits: Limits{
				PendingPerSource: count, StrangersPerSource: count, Strangers: count,
				SourceRate: ratelimit.Limit{Rate: 1, Burst: 2 * count}, StrangerRate: ratelimit.Limit{Rate: 1, Burst: 2 * count},
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		wire, dying := newMemoryListener(), newMemoryListener()
		for _, l := range []*memoryListener{wire, dying} {
			running.Go(func() { _ = server.Run(ctx, l, &tls.Config{Certificates: []tls.Certificate{a.server}}) })
		}
		dying.from = dying.from.Next()
		release := make(chan struct{})
		held := make([]atomic.Uint64, count) // the revision that each node has
		for i := range count {
			c := NewClient(ClientOptions{
				Node: fmt.Sprint("node", i), Controllers: []string{"192.0.2.1:1"}, ServerName: "baremetal-ccm", CAFile: ca, TokenFile: token,
				OnPlan: func(_ string, s plan.NodePlan) {
					held[i].Store(s.Version.Revision)
					if i == 0 && s.Version.Revision == 1 {
						<-release
					}
				},
			})
			c.options.Dial = wire.dial
			if i == 1 {
				c.options.Dial = dying.dial
			}
			c.SetReport(plan.Report{})
			running.Go(func() { _ = c.Run(ctx) })
		}
		synctest.Wait()
		publish := func(revision uint64) {
			want := plans{"node0": bigSet(1, revision), "node1": bigSet(1, revision)}
			for i := 2; i < count; i++ {
				want[fmt.Sprint("node", i)] = set(1, revision, "192.0.2.1")
			}
			server.Publish(want)
			synctest.Wait()
		}
		publish(1)
		dying.setDown(true)
		dying.cut()
		publish(2)
		before, began := heap(), time.Now()
		for revision := uint64(3); revision <= revisions; revision++ {
			publish(revision)
			for i := 2; i < count; i++ {
				require.Equal(t, revision, held[i].Load(), "node%d waited for another", i)
			}
		}
		require.Zero(t, time.Since(began))
		require.Less(t, heap()-before, int64(8<<20), "a plan of the two is some 2 MiB")
		require.Equal(t, []string{"connected"}, seen.history("node1"))

		time.Sleep(keepaliveTime + keepaliveTimeout + time.Second)
		synctest.Wait()
		require.Equal(t, []string{"connected", "disconnected"}, seen.history("node1"))
		require.Equal(t, count-1, server.Counters().Planned, "nobody else was given up")
		close(release)
		synctest.Wait()
		require.EqualValues(t, revisions, held[0].Load())
		require.EqualValues(t, 1, held[1].Load())
		cancel()
		wire.end()
		dying.end()
		running.Wait()
		require.Empty(t, seen.faults)
	})
}
