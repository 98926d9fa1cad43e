package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"baremetal.cloud/ccm/pkg/loadbalancer"
)

// workers is how many Services are settled at the same time.
const workers = 8

func newQueue() workqueue.TypedRateLimitingInterface[string] {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, 30*time.Second)
	return workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[string]{Name: "baremetal-services"})
}

// RunController is the leader's own controller beside the stock one, on the same core.
// It restores what is held, publishes plans, writes status, conditions and Events, and
// follows the cloud-config. It returns when ctx ends.
func (p *Provider) RunController(ctx context.Context) error {
	select {
	case <-p.warm:
	case <-ctx.Done():
		return nil
	}
	// A watch may lag behind what the leader before wrote last.
	if err := p.options.Watches.Refresh(ctx); err != nil {
		return nil // ctx ended
	}
	cluster, err := p.listers.namespaces.Get(metav1.NamespaceSystem)
	if err != nil {
		return fmt.Errorf("the cluster's identity is the UID of namespace %s: %w", metav1.NamespaceSystem, err)
	}
	newest, err := p.restoreAll(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.publishPlans(ctx, string(cluster.UID)) })
	group.Go(func() error { return p.watchConfigMap(ctx) })
	group.Go(func() error { return p.followConfig(ctx, newest) })
	group.Go(func() error { return p.followMoves(ctx) })
	group.Go(func() error { return p.followConflicts(ctx) })
	group.Go(func() error { return p.followDepartures(ctx) })
	for range workers {
		group.Go(func() error { return p.runWorker(ctx) })
	}
	group.Go(func() error { <-ctx.Done(); p.queue.ShutDown(); return nil })
	return group.Wait()
}

// translateService turns svc into a value.
func (p *Provider) translateService(svc *corev1.Service) loadbalancer.Service {
	var namespaceLabels map[string]string
	if ns, err := p.listers.namespaces.Get(svc.Namespace); err == nil {
		namespaceLabels = ns.Labels
	}
	return serviceOf(svc, namespaceLabels)
}

// runWorker settles Services until the queue is shut down.
func (p *Provider) runWorker(ctx context.Context) error {
	for {
		key, shutdown := p.queue.Get()
		if shutdown {
			return nil
		}
		// Without the Lease no write is let out. Each would fail, and then wait for longer
		// than the API server was away.
		if p.options.Elector.Fence().WaitOpen(ctx) == nil {
			p.settleService(ctx, key)
		}
		p.queue.Done(key)
	}
}

func (p *Provider) settleService(ctx context.Context, key string) {
	err := p.syncService(ctx, key)
	if err == nil {
		p.queue.Forget(key)
		return
	}
	if errors.Is(err, errBehind) {
		p.tellBehind(key, err)
		p.queue.Forget(key)
		p.queue.AddAfter(key, behindPeriod)
		return
	}
	if ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		p.options.Logger.Warn("Service will be tried again", "service", key, "err", err)
	}
	p.queue.AddRateLimited(key)
}

// tellBehind says of one Service a second that it is not released, however many there are.
func (p *Provider) tellBehind(key string, err error) {
	level, now, before := slog.LevelDebug, time.Now().UnixNano(), p.toldBehind.Load()
	if now-before >= int64(behindPeriod) && p.toldBehind.CompareAndSwap(before, now) {
		level = slog.LevelInfo
	}
	p.options.Logger.Log(context.Background(), level, "nothing is released now", "service", key, "err", err)
}

// syncService brings one Service's status in line with the core.
func (p *Provider) syncService(ctx context.Context, key string) error {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return err
	}
	defer p.writers.lockKey(key)()
	svc, err := p.listers.services.Services(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		if err := p.releaseOthers(ctx, key, ""); err != nil {
			return err
		}
		p.dedup.forgetService(key, true, p.core.now())
		return nil
	}
	if err != nil {
		return err
	}
	svc = p.dedup.newestWritten(svc)
	uid := string(svc.UID)
	if err := p.releaseOthers(ctx, key, uid); err != nil {
		return err
	}
	switch {
	case !wantsAddress(svc, p.servedClasses()) || svc.DeletionTimestamp != nil:
		return p.retireService(ctx, svc)
	case namesClass(svc, p.servedClasses()):
		// The stock controller does not see Services with a class.
		if svc, err = p.addFinalizer(ctx, svc); err != nil {
			return err
		}
	}
	// The stock controller asks for the others as well, but first writes its finalizer, and
	// does not notice when labels or ipFamilyPolicy change. The answer is the same, whichever
	// controller asks first. A refusal is kept in the core, for the condition.
	_ = p.core.ensureService(p.translateService(svc))
	if !namesClass(svc, p.servedClasses()) && p.dedup.wasJustReleased(svc, p.core.now()) {
		return nil // EnsureLoadBalancer queues it again
	}
	return p.writeStatus(ctx, svc)
}

// retireService lets go of a Service that no longer wants a load balancer.
func (p *Provider) retireService(ctx context.Context, svc *corev1.Service) error {
	if !p.core.knowsService(string(svc.UID)) && !isMarked(svc) {
		p.dedup.forgetService(svc.Namespace+"/"+svc.Name, svc.DeletionTimestamp != nil, p.core.now())
		return nil // most Services are no load balancers, and take no part in what follows
	}
	if err := p.mayRelease(ctx, svc.Namespace+"/"+svc.Name, string(svc.UID)); err != nil {
		return err
	}
	p.dedup.forgetService(svc.Namespace+"/"+svc.Name, svc.DeletionTimestamp != nil, p.core.now())
	if p.servedClasses().none && servicehelpers.HasLBFinalizer(svc) && !slices.Contains(svc.Finalizers, Finalizer) {
		return nil // the stock controller calls EnsureLoadBalancerDeleted
	}
	return p.releaseService(ctx, svc)
}

func (p *Provider) addFinalizer(_ context.Context, svc *corev1.Service) (*corev1.Service, error) {
	if slices.Contains(svc.Finalizers, Finalizer) {
		return svc, nil
	}
	changed := svc.DeepCopy()
	changed.Finalizers = append(changed.Finalizers, Finalizer)
	return servicehelpers.PatchService(p.client.CoreV1(), svc, changed)
}

// patchService writes the difference between two versions of a Service. A Service that is gone
// needs nothing.
func (p *Provider) patchService(_ context.Context, before, after *corev1.Service) error {
	written, err := servicehelpers.PatchService(p.client.CoreV1(), before, after)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write status of Service %s/%s", before.Namespace, before.Name), err)
	}
	p.dedup.noteWrite(written)
	p.dedup.left(written, p.core.now())
	p.core.statusShows(string(written.UID), publishedAddresses(written))
	return nil
}
