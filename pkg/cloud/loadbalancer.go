package cloud

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cloud-provider/api"
)

// retryRefused is when the stock controller asks again after a refusal. It is long
// because a Service that waits is served by our own controller as soon as an address
// becomes free, without the stock controller.
const retryRefused = 5 * time.Minute

// errNotReady is returned before the addresses in use are known.
var errNotReady = errors.New("the addresses in use are not known yet")

// EnsureLoadBalancer gives svc its addresses and returns the status that svc has, so that
// the stock controller writes none: our controller does, as soon as a node has acknowledged
// an address. Of two writers one would now and then put back what the other has just
// replaced. nodes are not used; nodes and endpoints are watched instead.
func (p *Provider) EnsureLoadBalancer(ctx context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	if err := p.waitRestored(ctx); err != nil {
		return nil, err
	}
	err := p.core.ensure(p.translate(svc))
	p.said.asked(svc)
	p.queue.Add(svc.Namespace + "/" + svc.Name)
	if err != nil {
		return nil, api.NewRetryError(refusalError(err).Error(), retryRefused)
	}
	return svc.Status.LoadBalancer.DeepCopy(), nil
}

// GetLoadBalancer says whether svc holds anything. It answers from memory, because the
// API server wipes the status when the type changes, and it never fails, because that
// would keep a Service from being deleted.
func (p *Provider) GetLoadBalancer(ctx context.Context, _ string, svc *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	if err := p.waitRestored(ctx); err != nil {
		return nil, false, err
	}
	status, ok := p.core.status(string(svc.UID))
	if !ok || len(status.Held) == 0 || !served(svc, p.classes()) {
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
	return nil
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
	defer p.writers.lock(key)()
	// svc may be an outdated copy.
	if known, err := p.listers.services.Services(svc.Namespace).Get(svc.Name); err == nil && known.UID == svc.UID {
		svc = p.said.newest(known)
	}
	return p.release(ctx, svc)
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
