package cloud

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
)

// errNotReady is returned before the addresses in use are known.
var errNotReady = errors.New("the addresses in use are not known yet")

// EnsureLoadBalancer returns ImplementedElsewhere: our own controller gives svc its
// addresses and writes its status. Of two writers one would now and then put back what the
// other has just replaced. The stock controller has written its finalizer before it asks, and
// writes no status and no Event after this answer, which it compares by ==.
func (p *Provider) EnsureLoadBalancer(_ context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	p.dedup.noteAsked(svc)
	select {
	case <-p.restored:
		p.queue.Add(svc.Namespace + "/" + svc.Name)
	default: // restore queues every Service
	}
	return nil, cloudprovider.ImplementedElsewhere
}

// GetLoadBalancer says whether svc holds anything. It answers from memory, because the
// API server wipes the status when the type changes, and it never fails, because that
// would keep a Service from being deleted.
func (p *Provider) GetLoadBalancer(ctx context.Context, _ string, svc *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	if err := p.waitRestored(ctx); err != nil {
		return nil, false, err
	}
	status, ok := p.core.statusOf(string(svc.UID))
	if !ok || len(status.Held) == 0 || !classServed(svc, p.servedClasses()) {
		return nil, false, nil
	}
	return statusOf(status.Published, status.Yielding), true, nil
}

// GetLoadBalancerName returns the Service's key.
func (p *Provider) GetLoadBalancerName(_ context.Context, _ string, svc *corev1.Service) string {
	return svc.Namespace + "/" + svc.Name
}

// UpdateLoadBalancer does nothing: which nodes may announce follows from our own watches,
// and svc may be an outdated copy.
func (p *Provider) UpdateLoadBalancer(context.Context, string, *corev1.Service, []*corev1.Node) error {
	return cloudprovider.ImplementedElsewhere
}

// EnsureLoadBalancerDeleted takes the addresses out of svc's status and frees them. It is
// idempotent.
func (p *Provider) EnsureLoadBalancerDeleted(ctx context.Context, _ string, svc *corev1.Service) error {
	if err := p.waitRestored(ctx); err != nil {
		return err
	}
	key := svc.Namespace + "/" + svc.Name
	p.awaitCurrent(ctx)
	if err := p.mayRelease(ctx, key, string(svc.UID)); err != nil {
		return err // the stock controller asks again
	}
	defer p.queue.Add(key)
	defer p.writers.lockKey(key)()
	// svc may be an outdated copy.
	if known, err := p.listers.services.Services(svc.Namespace).Get(svc.Name); err == nil && known.UID == svc.UID {
		svc = p.dedup.newestWritten(known)
	}
	return p.releaseService(ctx, svc)
}

// waitRestored waits until every held address is known, which takes as long as the
// informers take to list.
func (p *Provider) waitRestored(ctx context.Context) error {
	select {
	case <-p.restored:
		return nil
	case <-ctx.Done():
		return errors.Join(errNotReady, ctx.Err())
	case <-p.stop:
		return errNotReady
	}
}
