package history

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// retry is the time between two attempts to reach the API server.
const retry = 100 * time.Millisecond

// source is what can be listed and watched.
type source struct {
	list  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

func (r *Recorder) services() source {
	services := r.client.CoreV1().Services(metav1.NamespaceAll)
	return source{func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return services.List(ctx, o) }, services.Watch}
}

func (r *Recorder) leases() source {
	leases := r.client.CoordinationV1().Leases(namespace)
	return named(leaseName, source{func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return leases.List(ctx, o) }, leases.Watch})
}

func (r *Recorder) configs() source {
	configMaps := r.client.CoreV1().ConfigMaps(namespace)
	return named(lastGood, source{func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return configMaps.List(ctx, o)
	}, configMaps.Watch})
}

// named restricts a source to the object of that name.
func named(name string, s source) source {
	selector := "metadata.name=" + name
	return source{
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return s.list(ctx, o)
		},
		func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return s.watch(ctx, o)
		},
	}
}

// follower tells of every version of the objects of a source. client-go's informers skip
// versions that follow each other quickly, and say nothing of it when they list anew.
type follower struct {
	source
	changed func(object any, revision uint64, gone bool)
	// listed, if not nil, is told after each list what exists.
	listed func(present map[types.UID]bool, revision uint64)
	// revision is up to where everything was told; "" before the first list and after a
	// watch could not be resumed.
	revision string
}

// run follows until ctx ends. It calls ready once, after the first list.
func (f *follower) run(ctx context.Context, ready func()) {
	for first := true; ctx.Err() == nil; {
		if f.revision == "" && f.relist(ctx) == nil && first {
			first = false
			ready()
		}
		if f.revision != "" {
			f.follow(ctx)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func (f *follower) relist(ctx context.Context) error {
	list, err := f.list(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	objects, err := meta.ExtractList(list)
	if err != nil {
		return err
	}
	m, err := meta.ListAccessor(list)
	if err != nil {
		return err
	}
	present := map[types.UID]bool{}
	for _, o := range objects {
		if object, err := meta.Accessor(o); err == nil {
			present[object.GetUID()] = true
			f.changed(o, revisionOf(object.GetResourceVersion()), false)
		}
	}
	if f.listed != nil {
		f.listed(present, revisionOf(m.GetResourceVersion()))
	}
	f.revision = m.GetResourceVersion()
	return nil
}

// follow watches from the last revision until the watch ends.
func (f *follower) follow(ctx context.Context) {
	w, err := f.watch(ctx, metav1.ListOptions{ResourceVersion: f.revision, AllowWatchBookmarks: true})
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		f.revision = ""
	}
	if err != nil {
		return
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		if event.Type == watch.Error {
			err := apierrors.FromObject(event.Object)
			if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
				f.revision = ""
			}
			return
		}
		object, err := meta.Accessor(event.Object)
		if err != nil {
			return
		}
		f.revision = object.GetResourceVersion()
		if event.Type != watch.Bookmark {
			f.changed(event.Object, revisionOf(f.revision), event.Type == watch.Deleted)
		}
	}
}
