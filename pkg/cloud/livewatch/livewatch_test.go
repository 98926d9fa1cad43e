package livewatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"baremetal.cloud/ccm/internal/testlog"
)

// server is an API server with the Services of one namespace: its watch tells of what
// happens after a version, and it can be away, or refuse watches alone.
type server struct {
	mu       sync.Mutex
	version  int
	services map[string]*corev1.Service
	history  []watch.Event
	watches  map[*serverWatch]bool
	down     error // of lists and watches
	noWatch  error // of watches alone
	lists    []time.Time
}

type serverWatch struct {
	server *server
	events chan watch.Event
	once   sync.Once
}

func (w *serverWatch) ResultChan() <-chan watch.Event { return w.events }

func (w *serverWatch) Stop() {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.end()
}

// end closes the watch; the server is locked.
func (w *serverWatch) end() {
	delete(w.server.watches, w)
	w.once.Do(func() { close(w.events) })
}

func newServer(names ...string) *server {
	s := &server{services: map[string]*corev1.Service{}, watches: map[*serverWatch]bool{}}
	for _, name := range names {
		s.put(name, name)
	}
	return s
}

// put creates or changes a Service.
func (s *server) put(name, uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := watch.Added
	if _, ok := s.services[name]; ok {
		kind = watch.Modified
	}
	s.version++
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(uid), ResourceVersion: strconv.Itoa(s.version)}}
	s.services[name] = svc
	s.happened(watch.Event{Type: kind, Object: svc})
}

func (s *server) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	svc := s.services[name].DeepCopy()
	svc.ResourceVersion = strconv.Itoa(s.version)
	delete(s.services, name)
	s.happened(watch.Event{Type: watch.Deleted, Object: svc})
}

func (s *server) happened(event watch.Event) {
	s.history = append(s.history, event)
	for w := range s.watches {
		w.events <- event
	}
}

// fail makes the server unreachable, and ends its watches; nil brings it back.
func (s *server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
	for w := range s.watches {
		w.end()
	}
}

func (s *server) ListWithContext(context.Context, metav1.ListOptions) (runtime.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists = append(s.lists, time.Now())
	if s.down != nil {
		return nil, s.down
	}
	out := &corev1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.version)}}
	for _, name := range slices.Sorted(maps.Keys(s.services)) {
		out.Items = append(out.Items, *s.services[name].DeepCopy())
	}
	return out, nil
}

func (s *server) WatchWithContext(_ context.Context, options metav1.ListOptions) (watch.Interface, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.down, s.noWatch); err != nil {
		return nil, err
	}
	from, err := strconv.Atoi(options.ResourceVersion)
	if err != nil {
		return nil, fmt.Errorf("a watch has to begin where a list ended: %w", err)
	}
	w := &serverWatch{server: s, events: make(chan watch.Event, 1000)}
	for _, event := range s.history[from:] {
		w.events <- event
	}
	s.watches[w] = true
	return w, nil
}

// succeeded returns how many lists there were.
func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lists)
}

// bench is a cache of a server's Services, and a record of what its handler was told.
type bench struct {
	*server
	set      *Set
	source   *Source
	informer cache.SharedIndexInformer
	log      testlog.Log
	mu       sync.Mutex
	told     []string
	// slow is how long the handler takes for each event.
	slow time.Duration
}

func (b *bench) tell(what string, o any) {
	time.Sleep(b.slow) // by the test's clock
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, what+" "+o.(*corev1.Service).Name)
}

// take returns what the handler was told since the last call.
func (b *bench) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.told
	b.told = nil
	return out
}

// has reports whether the cache has a Service.
func (b *bench) has(name string) bool {
	_, ok, _ := b.informer.GetStore().GetByKey("default/" + name)
	return ok
}

// run has f use a cache of what s has, by a clock of its own.
func run(t *testing.T, s *server, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{server: s}
		b.set = NewSet(b.log.Logger())
		b.source = b.set.Add("Services", s)
		b.informer = cache.NewSharedIndexInformer(b.source, &corev1.Service{}, 0, cache.Indexers{})
		_, err := b.informer.AddEventHandler(b.source.Handler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { b.tell("added", o) },
			UpdateFunc: func(_, o any) { b.tell("changed", o) },
			DeleteFunc: func(o any) { b.tell("deleted", o) },
		}))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.informer.RunWithContext(ctx) }()
		synctest.Wait()
		f(t, b)
		cancel()
		<-done
		synctest.Wait()
	})
}

var errUnreachable = errors.New("connection refused")

func TestWatchIsHandedOn(t *testing.T) {
	run(t, newServer("a", "b"), func(t *testing.T, b *bench) {
		require.Equal(t, []string{"added a", "added b"}, b.take())
		require.Empty(t, b.set.Broken())
		b.put("c", "c")
		b.put("a", "a")
		b.remove("b")
		synctest.Wait()
		require.Equal(t, []string{"added c", "changed a", "deleted b"}, b.take())
		require.Equal(t, 1, b.count())
	})
}

// K3.2: client-go's reflector would list again up to a minute after the API server is back.
func TestFault_K3_2_WatchIsRestoredAtOnce(t *testing.T) {
	run(t, newServer("kept", "gone", "remade"), func(t *testing.T, b *bench) {
		b.take()
		b.fail(errUnreachable)
		time.Sleep(75 * time.Second)
		require.Len(t, b.set.Broken(), 1)
		require.Contains(t, b.set.Broken()[0], "Services (connection refused)")
		require.False(t, b.source.Current())
		require.Error(t, b.set.Steady(0))
		require.LessOrEqual(t, b.count(), 160, "a list each half second, or so")
		b.put("new", "new")
		b.remove("gone")
		b.remove("remade")
		b.put("remade", "another")
		b.fail(nil)
		time.Sleep(600 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, []string{"added new", "deleted remade", "added remade", "deleted gone"}, b.take(), "what is new before what is gone")
		require.True(t, b.source.Current())
		require.NoError(t, b.set.Steady(0))
		require.ErrorContains(t, b.set.Steady(2*time.Second), "restored")
		time.Sleep(2 * time.Second)
		require.NoError(t, b.set.Steady(2*time.Second))
		b.put("kept", "kept")
		synctest.Wait()
		require.Equal(t, []string{"changed kept"}, b.take(), "the watch goes on")
	})
}

// K3.1: a cache counts as caught up when the handler has dealt with the difference, not
// when the list came.
func TestFault_K3_1_CaughtUpIsWhatIsDealtWith(t *testing.T) {
	run(t, newServer(), func(t *testing.T, b *bench) {
		b.slow = time.Second
		b.fail(errUnreachable)
		time.Sleep(5 * time.Second)
		b.put("one", "1")
		b.put("two", "2")
		b.fail(nil)
		time.Sleep(600*time.Millisecond + time.Second)
		synctest.Wait()
		require.True(t, b.has("two"))
		require.False(t, b.set.Settled())
		require.False(t, b.source.Current(), "the handler has not heard of the second")
		require.Equal(t, []string{"Services"}, b.set.Broken())
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, b.set.Settled())
		require.True(t, b.source.Current())
	})
}

// K3.1: an informer's resync repeats every object to its handler; what is repeated does not
// count as dealt with.
func TestFault_K3_1_ResyncIsNoProgress(t *testing.T) {
	run(t, newServer("a", "b", "c"), func(t *testing.T, b *bench) {
		set := NewSet(b.log.Logger())
		source := set.Add("Services", b.server)
		informer := cache.NewSharedIndexInformer(source, &corev1.Service{}, time.Hour, cache.Indexers{})
		told, slow := 0, time.Duration(0)
		_, err := informer.AddEventHandler(source.Handler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { time.Sleep(slow); told++ },
			UpdateFunc: func(any, any) { time.Sleep(slow); told++ },
		}))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); informer.RunWithContext(ctx) }()
		defer func() { cancel(); <-done }()
		time.Sleep(3*time.Hour + time.Minute)
		synctest.Wait()
		require.Equal(t, 3+3*3, told, "there were resyncs")

		slow = time.Minute
		b.server.mu.Lock()
		b.server.watches = map[*serverWatch]bool{} // alive, and nothing comes
		b.server.mu.Unlock()
		b.put("d", "d")
		began := time.Now()
		require.NoError(t, set.Refresh(t.Context()))
		require.GreaterOrEqual(t, time.Since(began), slow, "the handler has dealt with what the list brought")
		require.Equal(t, 3+3*3+1, told)
	})
}

// K3.1: what a list is asked for after a watch that is silent shows what it did not.
func TestFault_K3_1_RefreshSeesWhatTheWatchDidNot(t *testing.T) {
	run(t, newServer("old", "other"), func(t *testing.T, b *bench) {
		b.take()
		b.mu.Lock()
		silent := b.watches
		b.watches = map[*serverWatch]bool{} // alive, and nothing comes
		b.mu.Unlock()
		b.put("new", "new")
		b.remove("old")
		time.Sleep(time.Minute)
		require.True(t, b.source.Current())
		require.True(t, b.has("old"))
		require.NoError(t, b.set.Refresh(t.Context()))
		require.False(t, b.has("old"))
		require.Equal(t, []string{"added new", "deleted old"}, b.take())
		require.Len(t, silent, 1)
		b.put("late", "late")
		synctest.Wait()
		require.Equal(t, []string{"added late"}, b.take(), "the watch begins again where the list ended")
	})
}

// One list a second for each kind, however many ask, and each is answered by a list that
// began after it asked.
func TestFault_K3_1_OneListASecond(t *testing.T) {
	run(t, newServer("a"), func(t *testing.T, b *bench) {
		began, before := time.Now(), b.count()
		var asking sync.WaitGroup
		for range 50 {
			asking.Go(func() {
				for time.Since(began) < 10*time.Second {
					asked := time.Now()
					if !errors.Is(b.set.Refresh(t.Context()), nil) {
						t.Error("no answer")
					}
					b.server.mu.Lock()
					newest := b.lists[len(b.lists)-1]
					b.server.mu.Unlock()
					if newest.Before(asked) {
						t.Error("answered by a list from before")
					}
				}
			})
		}
		asking.Wait()
		require.LessOrEqual(t, b.count()-before, 12)
		require.GreaterOrEqual(t, b.count()-before, 10)
	})
}

// Refresh waits while the API server does not answer, and as long as it was told to.
func TestRefreshWithoutAPIServer(t *testing.T) {
	run(t, newServer("a"), func(t *testing.T, b *bench) {
		b.fail(errUnreachable)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		require.ErrorIs(t, b.set.Refresh(ctx), context.DeadlineExceeded)
		b.fail(nil)
		require.NoError(t, b.set.Refresh(t.Context()))
	})
}

// K3.1, a watch of one kind broken alone: lists succeed, and are not repeated without
// pause.
func TestFault_K3_1_OneWatchBrokenAlone(t *testing.T) {
	run(t, newServer("a"), func(t *testing.T, b *bench) {
		slices := newServer("slice")
		broken := b.set.Add("EndpointSlices", slices)
		informer := cache.NewSharedIndexInformer(broken, &corev1.Service{}, 0, cache.Indexers{})
		_, err := informer.AddEventHandler(broken.Handler(cache.ResourceEventHandlerFuncs{}))
		require.NoError(t, err)
		slices.noWatch = apierrors.NewForbidden(corev1.Resource("endpointslices"), "", errUnreachable)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); informer.RunWithContext(ctx) }()
		time.Sleep(10 * time.Minute)
		require.True(t, b.source.Current())
		require.Error(t, b.set.Steady(0), "no replica stands meanwhile")
		require.LessOrEqual(t, slices.count(), 30)
		slices.mu.Lock()
		slices.noWatch = nil
		slices.mu.Unlock()
		time.Sleep(40 * time.Second)
		require.NoError(t, b.set.Steady(0))
		cancel()
		<-done
	})
}

// A watch that the API server ends in order, or tells that its version is too old, costs
// nothing.
func TestOrderlyEndAndExpiry(t *testing.T) {
	run(t, newServer("a"), func(t *testing.T, b *bench) {
		b.take()
		time.Sleep(5 * time.Minute)
		b.fail(nil) // ends the watches
		synctest.Wait()
		require.Empty(t, b.set.Broken())
		require.Equal(t, 1, b.count(), "no list is needed")
		b.server.mu.Lock()
		for w := range b.watches {
			w.events <- watch.Event{Type: watch.Error, Object: &apierrors.NewResourceExpired("too old").ErrStatus}
		}
		b.server.mu.Unlock()
		synctest.Wait()
		require.Empty(t, b.set.Broken())
		require.Equal(t, 2, b.count())
		require.Empty(t, b.take())
		b.put("a", "a")
		synctest.Wait()
		require.Equal(t, []string{"changed a"}, b.take())
	})
}
