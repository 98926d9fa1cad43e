package kubelet

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// objectKind is a kind that volumes are filled from.
type objectKind string

const (
	configMap objectKind = "ConfigMap"
	secret    objectKind = "Secret"
)

// object follows one ConfigMap or Secret. A node may watch only those that its Pods
// name, one by one.
type object struct {
	client          kubernetes.Interface
	kind            objectKind
	namespace, name string
	changed         func()

	mu sync.Mutex
	// known says that the API server has answered at least once.
	known bool
	// data is nil while the object does not exist.
	data map[string][]byte
}

// content returns the object's data, nil if there is no such object; known is false
// as long as that cannot be told.
func (o *object) content() (data map[string][]byte, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data, o.known
}

func (o *object) set(data map[string][]byte) {
	o.mu.Lock()
	o.data, o.known = data, true
	o.mu.Unlock()
	o.changed()
}

// run follows the object until ctx ends.
func (o *object) run(ctx context.Context) {
	wait := 100 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		// An error here is an outage, or the authorizer that has not seen the Pod yet.
		_ = o.follow(ctx)
		if time.Since(began) > 10*time.Second {
			wait = 100 * time.Millisecond
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// follow reads the object and then its changes, until the watch ends.
func (o *object) follow(ctx context.Context) error {
	version, err := o.get(ctx)
	if err != nil {
		return err
	}
	w, err := o.watch(ctx, version)
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		switch event.Type {
		case watch.Added, watch.Modified:
			data, _ := contentOf(event.Object)
			o.set(data)
		case watch.Deleted:
			o.set(nil)
		case watch.Error:
			return apierrors.FromObject(event.Object)
		}
	}
	return errors.New("the watch ended")
}

func (o *object) get(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var got runtime.Object
	if o.kind == secret {
		got, err = o.client.CoreV1().Secrets(o.namespace).Get(ctx, o.name, metav1.GetOptions{})
	} else {
		got, err = o.client.CoreV1().ConfigMaps(o.namespace).Get(ctx, o.name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		o.set(nil)
		return "", nil
	}
	if err != nil {
		return "", err
	}
	data, version := contentOf(got)
	o.set(data)
	return version, nil
}

func (o *object) watch(ctx context.Context, version string) (watch.Interface, error) {
	options := metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector("metadata.name", o.name).String(),
		ResourceVersion: version,
	}
	if o.kind == secret {
		return o.client.CoreV1().Secrets(o.namespace).Watch(ctx, options)
	}
	return o.client.CoreV1().ConfigMaps(o.namespace).Watch(ctx, options)
}

func contentOf(o runtime.Object) (data map[string][]byte, version string) {
	switch o := o.(type) {
	case *corev1.Secret:
		data = maps.Clone(o.Data)
		version = o.ResourceVersion
	case *corev1.ConfigMap:
		data = maps.Clone(o.BinaryData)
		if data == nil {
			data = map[string][]byte{}
		}
		for key, value := range o.Data {
			data[key] = []byte(value)
		}
		version = o.ResourceVersion
	}
	if data == nil {
		data = map[string][]byte{}
	}
	return data, version
}
