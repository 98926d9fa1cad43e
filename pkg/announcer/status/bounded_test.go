package status

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Any user of the node may ask for metrics without pause, on many connections: they are made once
// a second, by one request at a time.
func TestFault_K1_3_MetricsAreMadeOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made, at, most atomic.Int32
		handler := limitRate(&remembered{now: time.Now, inner: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			most.Store(max(most.Load(), at.Add(1)))
			runtime.Gosched() // Others may come meanwhile.
			at.Add(-1)
			made.Add(1)
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, r.Header.Get("Accept-Encoding")+"metrics")
		})})
		const duration = time.Minute
		end := time.Now().Add(duration)
		var answered atomic.Int32
		var all sync.WaitGroup
		for range 24 {
			all.Go(func() {
				for time.Now().Before(end) {
					w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
					r.Header.Set("Accept-Encoding", "gzip")
					if handler.ServeHTTP(w, r); w.Body.Len() > 0 {
						require.Equal(t, "metrics", w.Body.String())
						require.Equal(t, "text/plain", w.Header().Get("Content-Type"))
						answered.Add(1)
					}
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, most.Load())
		require.LessOrEqual(t, made.Load(), int32(duration/metricsAge)+1)
		require.InDelta(t, duration.Seconds()*answersPerSecond, answered.Load(), answersPerSecond)
	})
}

// Those who keep many connections do not keep out others: the oldest end.
func TestFault_K1_3_ConnectionsAreBounded(t *testing.T) {
	c := newConnections()
	var ours []net.Conn
	open := map[net.Conn]bool{}
	for range 3 * maxConnections {
		conn, theirs := net.Pipe()
		defer theirs.Close()
		wrapped := &watched{Conn: conn, closed: func(w net.Conn) { delete(open, w) }}
		ours, open[wrapped] = append(ours, wrapped), true
		c.connChanged(wrapped, http.StateNew)
		c.connChanged(wrapped, http.StateActive)
	}
	require.Len(t, open, maxConnections)
	require.True(t, open[ours[len(ours)-1]])
	require.False(t, open[ours[0]])
	for _, conn := range ours {
		c.connChanged(conn, http.StateClosed)
	}
	require.Zero(t, c.order.Len())
	require.Empty(t, c.known)
}

type watched struct {
	net.Conn
	closed func(net.Conn)
}

func (w *watched) Close() error {
	w.closed(w)
	return w.Conn.Close()
}
