package livewatch

import (
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// objects are those that the informer was given, by namespace and name.
type objects map[string]runtime.Object

func keyOf(m metav1.Object) string { return m.GetNamespace() + "/" + m.GetName() }

// indexObjects returns the objects of a list by their keys.
func indexObjects(list runtime.Object) (objects, error) {
	items, err := meta.ExtractList(list)
	if err != nil {
		return nil, err
	}
	out := make(objects, len(items))
	for _, item := range items {
		m, err := meta.Accessor(item)
		if err != nil {
			return nil, err
		}
		out[keyOf(m)] = item
	}
	return out, nil
}

// deltaOf returns the events that turn have into want. What is new comes before what
// is gone: endpoints that moved from one object to another are never missing between.
func deltaOf(have, want objects) []watch.Event {
	var out []watch.Event
	for _, key := range sortedKeys(want) {
		before, ok := have[key]
		after := want[key]
		switch {
		case !ok:
			out = append(out, watch.Event{Type: watch.Added, Object: after})
		case sameVersion(before, after):
		case uidOf(before) != uidOf(after): // deleted and made anew
			out = append(out, watch.Event{Type: watch.Deleted, Object: before}, watch.Event{Type: watch.Added, Object: after})
		default:
			out = append(out, watch.Event{Type: watch.Modified, Object: after})
		}
	}
	for _, key := range sortedKeys(have) {
		if _, ok := want[key]; !ok {
			out = append(out, watch.Event{Type: watch.Deleted, Object: have[key]})
		}
	}
	return out
}

func sortedKeys(in objects) []string {
	out := make([]string, 0, len(in))
	for key := range in {
		out = append(out, key)
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

// sameVersion reports whether two objects with one key are the same version. A fake API
// server in tests gives no versions: what counts then is what is in the objects.
func sameVersion(a, b runtime.Object) bool {
	if v := versionOf(a); v != "" {
		return v == versionOf(b) && uidOf(a) == uidOf(b)
	}
	return reflect.DeepEqual(a, b)
}

func versionOf(o runtime.Object) string {
	m, err := meta.Accessor(o)
	if err != nil {
		return ""
	}
	return m.GetResourceVersion()
}

func uidOf(o runtime.Object) string {
	m, err := meta.Accessor(o)
	if err != nil {
		return ""
	}
	return string(m.GetUID())
}

// isRepeated reports whether an event brings a version that the informer has.
func isRepeated(before, after runtime.Object) bool {
	v := versionOf(before)
	return v != "" && v == versionOf(after) && reflect.DeepEqual(before, after)
}
