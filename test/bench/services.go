package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// writers is how many requests are under way at the same time where there are many to
// make.
const writers = 32

// servicePort is the port of every Service.
const servicePort = 80

// service returns a Service of type LoadBalancer for the web Pods.
func service(name string, change func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeLoadBalancer,
			Selector: map[string]string{"app": "web"},
			Ports:    []corev1.ServicePort{{Name: "http", Port: servicePort, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	if change != nil {
		change(svc)
	}
	return svc
}

// series returns n names.
func series(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%05d", prefix, i)
	}
	return names
}

// create makes a Service and returns when the API server had answered.
func (l *lab) create(ctx context.Context, name string, change func(*corev1.Service)) (time.Time, error) {
	_, err := l.client.CoreV1().Services(namespace).Create(ctx, service(name, change), metav1.CreateOptions{})
	return time.Now(), err
}

// createAll makes many Services by many writers and returns when the last was made.
func (l *lab) createAll(ctx context.Context, names []string, change func(*corev1.Service)) (time.Time, error) {
	var last atomic.Int64 // nanoseconds since began
	began := time.Now()
	err := byWriters(ctx, names, func(ctx context.Context, name string) error {
		at, err := l.create(ctx, name, change)
		since := int64(at.Sub(began))
		for {
			known := last.Load()
			if since <= known || last.CompareAndSwap(known, since) {
				return err
			}
		}
	})
	return began.Add(time.Duration(last.Load())), err
}

// deleteAll deletes Services and waits until they are gone.
func (l *lab) deleteAll(ctx context.Context, names []string) error {
	err := byWriters(ctx, names, func(ctx context.Context, name string) error {
		err := l.client.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return l.watch.gone(ctx, names)
}

// byWriters calls do for every name, by a fixed number of goroutines.
func byWriters(ctx context.Context, names []string, do func(context.Context, string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, name := range names {
		group.Go(func() error {
			if err := do(ctx, name); err != nil {
				return fmt.Errorf("Service %s: %w", name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// pause waits for d, or less if ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
