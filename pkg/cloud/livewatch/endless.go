package livewatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

var (
	// errAsked ends a watch because a list was asked for.
	errAsked = errors.New("a list was asked for")
	// errNoWatch is a watch that did not begin in time.
	errNoWatch = errors.New("no answer to a watch")
	// errShort is a watch that ended in order at once: with that nothing is watched.
	errShort = errors.New("the watch ended as soon as it began")
)

// shortWatch is how long a watch lasts at least, as client-go's reflector has it.
const shortWatch = time.Second

// endless is a watch that repairs itself.
type endless struct {
	source *Source
	out    chan watch.Event
	cancel context.CancelFunc
	done   chan struct{}
	// failures counts the watches in a row that did not last.
	failures int
	// listed is when the last list after the first began.
	listed time.Time
}

// ResultChan implements watch.Interface.
func (w *endless) ResultChan() <-chan watch.Event { return w.out }

// Stop implements watch.Interface.
func (w *endless) Stop() {
	w.cancel()
	<-w.done
}

// runWatch follows the API server from version on until ctx ends.
func (w *endless) runWatch(ctx context.Context, version string) {
	defer close(w.done)
	defer close(w.out)
	for ctx.Err() == nil {
		began := time.Now()
		err := w.followWatch(ctx, &version)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			continue // the API server ends every watch after a time
		case errors.Is(err, errAsked):
		default:
			w.source.markBroken(err)
			if time.Since(began) > stable {
				w.failures = 0
			}
			if w.failures++; w.failures > 1 {
				pauseFor(ctx, min(RetryList<<min(w.failures-2, 8), maxRetry))
			}
		}
		w.listed = time.Now()
		found, err := w.source.listUntil(ctx)
		if err != nil {
			return // ctx ended
		}
		version = found.version
		if !w.adoptList(ctx, found) {
			return
		}
	}
}

// followWatch passes on the events of one watch until it ends. It returns nil if it ended in
// order.
func (w *endless) followWatch(ctx context.Context, version *string) error {
	timeout := int64((minWatch + rand.N(minWatch)).Seconds()) //nolint:gosec // not a secret
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silent := time.AfterFunc(watchTimeout, cancel)
	upstream, err := w.source.server.WatchWithContext(ctx, metav1.ListOptions{
		ResourceVersion: *version, AllowWatchBookmarks: true, TimeoutSeconds: &timeout,
	})
	if err != nil {
		return err
	}
	defer upstream.Stop()
	if !silent.Stop() {
		return errNoWatch
	}
	began := time.Now()
	w.source.markMended()
	mayList := time.NewTimer(max(0, time.Until(w.listed.Add(RetryList))))
	defer mayList.Stop()
	var asked <-chan struct{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-mayList.C:
			asked = w.source.asked
		case <-asked:
			return errAsked
		case event, ok := <-upstream.ResultChan():
			if !ok && time.Since(began) < shortWatch {
				return errShort
			}
			if !ok {
				return nil
			}
			if err := w.passEvent(ctx, event, version); err != nil {
				return err
			}
		}
	}
}

// passEvent hands one event of the API server on.
func (w *endless) passEvent(ctx context.Context, event watch.Event, version *string) error {
	if event.Type == watch.Error {
		return apierrors.FromObject(event.Object)
	}
	m, err := meta.Accessor(event.Object)
	if err != nil {
		return fmt.Errorf("event %s: %w", event.Type, err)
	}
	*version = m.GetResourceVersion()
	if event.Type == watch.Bookmark {
		return nil
	}
	if w.source.takeEvent(event, keyOf(m)) {
		w.sendEvent(ctx, event)
	}
	return nil
}

// adoptList hands on what a list has that the informer was not given yet. It reports whether
// it was all taken.
func (w *endless) adoptList(ctx context.Context, found listed) bool {
	for _, event := range w.source.adoptList(found) {
		if !w.sendEvent(ctx, event) {
			return false
		}
	}
	w.source.notify()
	return true
}

func (w *endless) sendEvent(ctx context.Context, event watch.Event) bool {
	select {
	case w.out <- event:
		return true
	case <-ctx.Done():
		return false
	}
}

// listed is the API server's answer to a list.
type listed struct {
	list    runtime.Object
	objects objects
	version string
	// request is the last one that had been made when the list began.
	request uint64
}

// listUntil asks until the API server answers or ctx ends.
func (s *Source) listUntil(ctx context.Context) (listed, error) {
	for {
		found, err := s.tryList(ctx)
		if err == nil {
			return found, nil
		}
		if ctx.Err() != nil {
			return listed{}, ctx.Err()
		}
		s.markBroken(err)
		wait := retryDown
		if status := apierrors.APIStatus(nil); errors.As(err, &status) {
			wait = RetryList
		}
		pauseFor(ctx, wait)
	}
}

func (s *Source) tryList(ctx context.Context) (listed, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	select {
	case <-s.asked:
	default:
	}
	s.mu.Lock()
	request := s.requests
	s.mu.Unlock()
	list, err := s.server.ListWithContext(ctx, metav1.ListOptions{})
	if err != nil {
		return listed{}, err
	}
	m, err := meta.ListAccessor(list)
	if err != nil {
		return listed{}, err
	}
	found, err := indexObjects(list)
	return listed{list: list, objects: found, version: m.GetResourceVersion(), request: request}, err
}

// adoptList returns the events that bring the informer up to a list.
func (s *Source) adoptList(found listed) []watch.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := deltaOf(s.known, found.objects)
	for key, before := range s.known {
		// The informer has this pointer; one version needs not be in memory twice.
		if after, ok := found.objects[key]; ok && sameVersion(before, after) {
			found.objects[key] = before
		}
	}
	s.known = found.objects
	s.sent += uint64(len(events))
	s.target, s.answered = s.sent, found.request
	return events
}

// takeEvent notes an event that is going to be handed on; false if it is no news.
func (s *Source) takeEvent(event watch.Event, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, ok := s.known[key]
	switch {
	case event.Type == watch.Deleted:
		if !ok {
			return false
		}
		delete(s.known, key)
	case ok && isRepeated(before, event.Object):
		return false // an informer does not tell its handlers of it, and nor is it counted
	default:
		s.known[key] = event.Object
	}
	s.sent++
	return true
}

// markBroken notes that the cache may fall behind from now on.
func (s *Source) markBroken(cause error) {
	s.mu.Lock()
	news := !s.broken
	if news {
		s.broken, s.since = true, time.Now()
	}
	s.cause = cause
	tell := time.Since(s.lastLogged) >= repeatBroken || news
	if tell {
		s.lastLogged = time.Now()
	}
	since := s.since
	s.mu.Unlock()
	if tell {
		s.log.Warn("watch broken", "kind", s.kind, "broken", time.Since(since).Round(time.Millisecond), "err", cause)
	}
	if news {
		s.notify()
	}
}

// markMended notes that a watch follows a list again.
func (s *Source) markMended() {
	s.mu.Lock()
	was, since, told := s.broken, s.since, !s.lastLogged.IsZero()
	s.broken, s.cause, s.lastLogged = false, nil, time.Time{}
	s.mu.Unlock()
	if !was {
		return
	}
	if told {
		s.log.Info("watch restored", "kind", s.kind, "broken", time.Since(since).Round(time.Millisecond))
	}
	s.notify()
}

// pauseFor waits, with a jitter of a tenth, or until ctx ends.
func pauseFor(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait + rand.N(wait/10)) //nolint:gosec // not a secret
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
