package livewatch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

const (
	// retryDown is the time between two lists while the API server cannot be reached,
	// RetryList that while it answers with an error, and between two that were asked for.
	retryDown = 500 * time.Millisecond
	RetryList = time.Second
	// maxRetry bounds the pause where lists succeed and watches keep failing.
	maxRetry = 30 * time.Second
	// stable is how long a watch lasts that was no failure.
	stable = 10 * time.Second
	// listTimeout bounds one list, watchTimeout the time until the API server begins a watch.
	listTimeout  = time.Minute
	watchTimeout = 10 * time.Second
	// minWatch is the least time after which the API server ends a watch in order; at
	// most it is twice as long, as client-go's reflector does it.
	minWatch = 5 * time.Minute
	// repeatBroken is the time between two log lines that a watch is broken.
	repeatBroken = 30 * time.Second
)

// Source lists and watches the objects of one kind for one informer.
type Source struct {
	kind   string
	server cache.ListerWatcherWithContext
	log    *slog.Logger
	// notify tells the Set that something about this Source changed.
	notify func()
	// asked has room for one: a list is wanted.
	asked chan struct{}

	mu sync.Mutex
	// known is what the informer was given.
	known objects
	// sent and handled count the events that the informer was given and those that its
	// handler has dealt with. target is what handled has to reach for the last list.
	sent, handled, target uint64
	// requests counts the requests for a list; the last list answers those up to answered.
	requests, answered uint64
	// broken reports whether a watch ended otherwise than in order, and since when; nothing can
	// be said of what is absent until a list is followed by a watch again. cause is why.
	broken     bool
	since      time.Time
	cause      error
	lastLogged time.Time
}

var _ cache.ListerWatcherWithContext = (*Source)(nil)
var _ cache.ListerWatcher = (*Source)(nil)

func newSource(kind string, server cache.ListerWatcherWithContext, log *slog.Logger, notify func()) *Source {
	return &Source{
		kind: kind, server: server, log: log, notify: notify, asked: make(chan struct{}, 1),
		known: objects{}, broken: true, since: time.Now(),
	}
}

// Kind names what is watched.
func (s *Source) Kind() string { return s.kind }

// IsWatchListSemanticsUnSupported makes the reflector call List and then Watch.
func (s *Source) IsWatchListSemanticsUnSupported() bool { return true }

// Handler returns a handler that calls h and counts. It is for the one handler by which
// the cache's owner learns of changes; a Source without one is never current.
func (s *Source) Handler(h cache.ResourceEventHandler) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(o any, initial bool) { h.OnAdd(o, initial); s.handledOne() },
		UpdateFunc: func(before, after any) {
			h.OnUpdate(before, after)
			if before != after { // else it is the informer's own resync, which no event of ours is behind
				s.handledOne()
			}
		},
		DeleteFunc: func(o any) { h.OnDelete(o); s.handledOne() },
	}
}

func (s *Source) handledOne() {
	s.mu.Lock()
	s.handled++
	reached := s.handled == s.target
	s.mu.Unlock()
	if reached {
		s.notify()
	}
}

// List implements cache.Lister.
func (s *Source) List(options metav1.ListOptions) (runtime.Object, error) {
	return s.ListWithContext(context.Background(), options)
}

// Watch implements cache.Watcher.
func (s *Source) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return s.WatchWithContext(context.Background(), options)
}

// ListWithContext returns the objects as they are, whatever the options say. It asks until
// the API server answers.
func (s *Source) ListWithContext(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	found, err := s.listUntil(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = found.objects
	s.sent += uint64(len(found.objects))
	s.target, s.answered = s.sent, found.request
	return found.list, nil
}

// WatchWithContext returns a watch that ends only with ctx or its Stop.
func (s *Source) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &endless{source: s, out: make(chan watch.Event), cancel: cancel, done: make(chan struct{})}
	go w.runWatch(ctx, options.ResourceVersion)
	return w, nil
}

// state is what can be said of a Source.
type state struct {
	// broken reports whether the cache may be behind, and since when; cause is why.
	broken bool
	since  time.Time
	cause  error
	// settling reports whether a list was received of which not everything is dealt with yet.
	settling bool
}

func (s *Source) currentState() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return state{broken: s.broken, since: s.since, cause: s.cause, settling: s.handled < s.target}
}

// Current reports whether the cache has caught up with the API server since its watch was
// last broken.
func (s *Source) Current() bool {
	now := s.currentState()
	return !now.broken && !now.settling
}

// Refresh returns nil once the cache, and the handler, have everything that a list
// returned that began after the call, and otherwise the cause once ctx is done.
func (s *Source) Refresh(ctx context.Context, changed func() <-chan struct{}) error {
	s.mu.Lock()
	s.requests++
	mine := s.requests
	s.mu.Unlock()
	select {
	case s.asked <- struct{}{}:
	default: // the list that is going to be made answers this request too
	}
	for {
		again := changed()
		if s.hasReached(mine) {
			return nil
		}
		select {
		case <-again:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Source) hasReached(request uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered >= request && s.handled >= s.target
}
