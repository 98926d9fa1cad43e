package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// sighting is when something about a Service was first seen by a client that watches.
// A zero time means not yet.
type sighting struct {
	// address is the first that the status showed.
	address netip.Addr
	// allocated is when the condition said so, or the address was there; addressed is
	// when the address was there; announced is when the condition said that a node
	// answers for it.
	allocated, addressed, announced time.Time
	// nodePort is the first port's, 0 if it has none.
	nodePort uint16
	// refused is the reason why nothing is allocated, "" if something is.
	refused string
}

// watcher records from one watch what a client would see.
type watcher struct {
	mu sync.Mutex
	// seen is guarded by mu, by the Service's name.
	seen map[string]sighting
	// changed is closed and replaced at every change. It is guarded by mu.
	changed chan struct{}
	// ended is why there is no watch any more. It is guarded by mu.
	ended error
	// observer, if not nil, is called at every change of a Service. It is guarded by mu.
	observer func(name string, s sighting)
}

func newWatcher() *watcher {
	return &watcher{seen: map[string]sighting{}, changed: make(chan struct{})}
}

// list takes note of the Services that exist, and returns where a watch goes on.
func (w *watcher) list(ctx context.Context, services corev1client.ServiceInterface) (version string, err error) {
	list, err := services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for i := range list.Items {
		w.see(&list.Items[i], false, time.Now())
	}
	return list.ResourceVersion, nil
}

// run watches from a version until ctx ends. An API server ends every watch after half an
// hour or more; the next one goes on from the last version seen.
func (w *watcher) run(ctx context.Context, services corev1client.ServiceInterface, version string) error {
	for {
		err := w.follow(ctx, services, &version)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			err = fmt.Errorf("watch Services: %w", err)
			w.update(func() { w.ended = err })
			return err
		}
	}
}

func (w *watcher) follow(ctx context.Context, services corev1client.ServiceInterface, version *string) error {
	events, err := services.Watch(ctx, metav1.ListOptions{ResourceVersion: *version, AllowWatchBookmarks: true})
	if err != nil {
		return err
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		svc, ok := event.Object.(*corev1.Service)
		if !ok {
			return fmt.Errorf("unexpected event %s: %v", event.Type, event.Object)
		}
		*version = svc.ResourceVersion
		if event.Type != watch.Bookmark {
			w.see(svc, event.Type == watch.Deleted, time.Now())
		}
	}
	return nil
}

// see takes note of a Service.
func (w *watcher) see(svc *corev1.Service, gone bool, now time.Time) {
	w.update(func() {
		if gone {
			delete(w.seen, svc.Name)
			return
		}
		w.seen[svc.Name] = w.seen[svc.Name].with(svc, now)
		if w.observer != nil {
			w.observer(svc.Name, w.seen[svc.Name])
		}
	})
}

// observe makes f hear of every change from now on; nil ends that. f must not call the
// watcher.
func (w *watcher) observe(f func(name string, s sighting)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.observer = f
}

// with returns s with what svc shows for the first time.
func (s sighting) with(svc *corev1.Service, now time.Time) sighting {
	first := func(t *time.Time) {
		if t.IsZero() {
			*t = now
		}
	}
	s.nodePort = nodePortOf(svc)
	allocated := meta.FindStatusCondition(svc.Status.Conditions, "baremetal.cloud/Allocated")
	s.refused = ""
	if allocated != nil && allocated.Status != metav1.ConditionTrue {
		s.refused = allocated.Reason
	}
	if allocated != nil && allocated.Status == metav1.ConditionTrue {
		first(&s.allocated)
	}
	if ingress := svc.Status.LoadBalancer.Ingress; len(ingress) > 0 {
		first(&s.allocated)
		first(&s.addressed)
		if !s.address.IsValid() {
			s.address, _ = netip.ParseAddr(ingress[0].IP)
		}
	}
	if meta.IsStatusConditionTrue(svc.Status.Conditions, "baremetal.cloud/Announced") {
		first(&s.announced)
	}
	return s
}

// update changes what is guarded and tells who waits.
func (w *watcher) update(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	close(w.changed)
	w.changed = make(chan struct{})
}

// errWaitedTooLong is why a wait ended.
var errWaitedTooLong = errors.New("waited too long")

// patience bounds what has to happen at some time; nothing is measured by it.
const patience = 10 * time.Minute

// wait waits until done says so of every one of the named Services, and returns what was
// seen of them. done is given false for a Service that is not there.
func (w *watcher) wait(ctx context.Context, names []string, done func(sighting, bool) bool) ([]sighting, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errWaitedTooLong)
	defer cancel()
	all := make([]sighting, len(names))
	for i, name := range names {
		for {
			w.mu.Lock()
			s, there := w.seen[name]
			changed, ended := w.changed, w.ended
			w.mu.Unlock()
			if ended != nil {
				return nil, ended
			}
			if done(s, there) {
				all[i] = s
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return nil, fmt.Errorf("Service %s: %w; last seen: %+v", name, context.Cause(ctx), s)
			}
		}
	}
	return all, nil
}

// addressed waits until every Service has an address that a node answers for, and checks
// that no two have the same.
func (w *watcher) addressed(ctx context.Context, names []string) ([]sighting, error) {
	all, err := w.wait(ctx, names, func(s sighting, _ bool) bool {
		return !s.addressed.IsZero() && !s.announced.IsZero()
	})
	if err != nil {
		return nil, err
	}
	holder := map[netip.Addr]string{}
	for i, s := range all {
		if other, taken := holder[s.address]; taken {
			return nil, fmt.Errorf("%s was given to Service %s and to Service %s", s.address, other, names[i])
		}
		holder[s.address] = names[i]
	}
	return all, nil
}

// unseen returns those of the names that there is no Service of.
func (w *watcher) unseen(names []string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, there := w.seen[name]; return there })
}

// refused waits until every Service is refused for that reason.
func (w *watcher) refused(ctx context.Context, names []string, reason string) error {
	_, err := w.wait(ctx, names, func(s sighting, _ bool) bool { return s.refused == reason })
	return err
}

// gone waits until no Service is there.
func (w *watcher) gone(ctx context.Context, names []string) error {
	_, err := w.wait(ctx, names, func(_ sighting, there bool) bool { return !there })
	return err
}
