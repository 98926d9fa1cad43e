package livewatch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/cache"
)

// Set is the Sources whose caches decisions are made on.
type Set struct {
	log *slog.Logger

	mu      sync.Mutex
	sources []*Source
	changed chan struct{}
	// mended is when the last of the broken watches was restored; zero where none was
	// broken since the first time that all were there.
	mended time.Time
	whole  bool
	first  bool
}

// NewSet returns one without Sources.
func NewSet(log *slog.Logger) *Set {
	return &Set{log: log, changed: make(chan struct{}), first: true}
}

// Add returns a new Source that watches what server has. Call it before any Source is used.
func (s *Set) Add(kind string, server cache.ListerWatcherWithContext) *Source {
	source := newSource(kind, server, s.log, s.notifyWaiters)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources = append(s.sources, source)
	return source
}

// notifyWaiters wakes all that wait for a change.
func (s *Set) notifyWaiters() {
	s.mu.Lock()
	defer s.mu.Unlock()
	whole := !slices.ContainsFunc(s.sources, func(source *Source) bool { return source.currentState().broken })
	if whole && !s.whole {
		if !s.first {
			s.mended = time.Now()
		}
		s.first = false
	}
	s.whole = whole
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed is closed at the next change of what the other methods return. It is taken
// before they are asked.
func (s *Set) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Broken returns the kinds whose caches may be behind, with the cause; none where every
// cache has caught up.
func (s *Set) Broken() []string {
	var out []string
	for _, source := range s.sources {
		switch now := source.currentState(); {
		case now.broken && now.cause != nil:
			out = append(out, fmt.Sprintf("%s (%v)", source.kind, now.cause))
		case now.broken || now.settling:
			out = append(out, source.kind)
		}
	}
	return out
}

// Current returns by kind whether its cache has caught up.
func (s *Set) Current() map[string]bool {
	out := make(map[string]bool, len(s.sources))
	for _, source := range s.sources {
		out[source.kind] = source.Current()
	}
	return out
}

// Settled reports whether no list is being dealt with: between its first and its last
// difference the caches together are of no moment.
func (s *Set) Settled() bool {
	return !slices.ContainsFunc(s.sources, func(source *Source) bool { return source.currentState().settling })
}

// Steady returns nil if every cache is current and was so for that long, unless no watch
// has been broken yet.
func (s *Set) Steady(long time.Duration) error {
	if broken := s.Broken(); len(broken) > 0 {
		return fmt.Errorf("watches are broken or not complete: %s", strings.Join(broken, ", "))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := time.Since(s.mended); !s.mended.IsZero() && age < long {
		return fmt.Errorf("watches were restored %v ago", age.Round(time.Millisecond))
	}
	return nil
}

// Refresh returns nil once every cache has what a list returned that began after the call.
func (s *Set) Refresh(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, source := range s.sources {
		group.Go(func() error { return s.RefreshOne(ctx, source) })
	}
	return group.Wait()
}

// RefreshOne is Refresh for one kind.
func (s *Set) RefreshOne(ctx context.Context, source *Source) error {
	if err := source.Refresh(ctx, s.Changed); err != nil {
		return fmt.Errorf("list %s: %w", source.kind, err)
	}
	return nil
}
