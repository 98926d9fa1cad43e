package control

import (
	"context"
	"crypto/tls"
	"fmt"
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
	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// heap is what is in use after everything unused has gone.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
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
				OnPlan: func(_ string, s announcement.Set) {
					held[i].Store(s.Stamp.Revision)
					if i == 0 && s.Stamp.Revision == 1 {
						<-release
					}
				},
			})
			c.options.Dial = wire.dial
			if i == 1 {
				c.options.Dial = dying.dial
			}
			c.SetReport(announcement.Report{})
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
