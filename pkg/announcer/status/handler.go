// Package status shows what an announcer does: /healthz and /readyz in words and /metrics for
// Prometheus. Both read the announcer's Status at the moment they are asked and keep
// nothing of their own.
package status

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/time/rate"

	"baremetal.cloud/ccm/pkg/announcer"
	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	headerTimeout = 5 * time.Second
	writeTimeout  = 10 * time.Second
	idleTimeout   = time.Minute
	// maxHeader bounds the header of a request.
	maxHeader       = 8 << 10
	shutdownTimeout = time.Second
	// hungAfter is for how long one turn of the announcer's loop may take: many times what it
	// does on a busy node, where peers have long taken over.
	hungAfter = 10 * time.Second
	// maxWait is how long /readyz?wait=DURATION waits for the first plan at most: less than
	// writeTimeout. planPeriod is the time between two looks.
	maxWait    = 8 * time.Second
	planPeriod = 100 * time.Millisecond
)

// Process is what stays as it is while the program runs.
type Process struct {
	Version string
	// Threads are those that must not be late.
	Threads []Thread
	// LogLinesLost returns how many lines of the log were left out because stderr was not read.
	LogLinesLost func() uint64
}

// Thread is a thread that must not be late. Class returns which of Classes the kernel gave it.
type Thread struct {
	Name    string
	Classes []string
	Class   func() string
}

// NewHandler serves /healthz, /readyz and /metrics of process from what status returns.
func NewHandler(status func() announcer.Status, process Process) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		newCollector(status, process),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", &remembered{inner: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), now: time.Now})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { serveHealth(w, status()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { serveReady(w, awaitPlan(r, status)) })
	return limitRate(mux), nil
}

// Serve serves handler on listener until ctx is done, then closes both and returns nil.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ConnState: newConnections().connChanged,
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		_ = server.Shutdown(last) // What a scraper still reads is cut off when it takes too long.
		_ = server.Close()
	})
	err := server.Serve(slowly{listener, ctx, rate.NewLimiter(acceptsPerSecond, acceptsPerSecond/10)})
	if !stop() {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("status server: %w", err)
}

// awaitPlan returns the Status to answer from. A request with wait=DURATION is answered as soon
// as there is a plan, or when that time is over: a probe that asks while the first leader comes
// about does not fail for it.
func awaitPlan(r *http.Request, status func() announcer.Status) announcer.Status {
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	over := time.NewTimer(min(wait, maxWait))
	defer over.Stop()
	look := time.NewTicker(planPeriod)
	defer look.Stop()
	for {
		s := status()
		if s.Started && !s.Plan.IsZero() {
			return s
		}
		select {
		case <-look.C:
		case <-over.C:
			return s
		case <-r.Context().Done():
			return s
		}
	}
}

// serveReady answers as health does once the announcer has carried out a plan, be it one that it
// kept. An update of all announcers that did not wait for this would end the last one that
// knows what to answer before the first one has heard of it.
func serveReady(w http.ResponseWriter, s announcer.Status) {
	if s.Started && s.Plan.IsZero() {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "waiting for a plan: no leader has spoken yet")
		return
	}
	serveHealth(w, s)
}

// serveHealth answers 200 once the announcer is able to carry out plans, and while it goes on with
// that. A lost stream is no illness: a restart would not mend it and would end what is being answered.
func serveHealth(w http.ResponseWriter, s announcer.Status) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !s.Started {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "starting: the network interfaces are not known yet")
		return
	}
	if s.Busy > hungAfter {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "hung: the announcer has been at one turn of its loop for %s\n", s.Busy.Round(time.Second))
		return
	}
	var text strings.Builder
	text.WriteString("ok\n")
	switch {
	case s.Plan.IsZero():
		text.WriteString("plan: none yet\n")
	case s.Persisted:
		fmt.Fprintf(&text, "plan: %s, kept on disk; no leader has confirmed it yet\n", s.Plan)
	default:
		fmt.Fprintf(&text, "plan: %s\n", s.Plan)
	}
	fmt.Fprintf(&text, "addresses: %d answered, %d with a problem, %d answered by others\n", s.Claims.Len(), len(s.Problems), s.Backup)
	fmt.Fprintf(&text, "peers: %d up, %d down, %d never heard\n", s.Peers[failover.Up], s.Peers[failover.Down], s.Peers[failover.Unknown])
	for _, session := range s.BGP.Sessions {
		fmt.Fprintf(&text, "BGP session to %s: %s", session.Peer, session.State)
		switch {
		case session.State == plan.BGPEstablished:
			fmt.Fprintf(&text, ", %d routes told", session.Routes)
		case session.Reason != "":
			fmt.Fprintf(&text, ": %s: %s", session.Reason, session.Message)
		}
		if session.BFD != "" {
			fmt.Fprintf(&text, "; BFD %s", session.BFD)
		}
		text.WriteString("\n")
	}
	if len(s.Streams) == 0 {
		text.WriteString("streams: none yet\n")
	}
	for _, stream := range s.Streams {
		state := "down"
		if stream.Up {
			state = "up"
		}
		fmt.Fprintf(&text, "stream to %s: %s since %s\n", stream.Replica, state, stream.Since.UTC().Format(time.RFC3339))
	}
	fmt.Fprint(w, text.String())
}
