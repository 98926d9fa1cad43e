package cloud

import (
	"cmp"
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
)

// restoreAll takes over every address in a status before the first is given out, and then
// the newest cloud-config, which it returns.
//
// The cache of Services holds what a list returned that began after leading did: what the
// leader before wrote last is in it, and no address is given out twice. The ConfigMap of the
// cloud-config is read then, too.
//
// The addresses are restored under the cloud-config that the leader before used. So one
// that leaves a Service's address out is refused by a leader that has just begun as
// by one that leads for long, and an address that was answered goes on being answered.
func (p *Provider) restoreAll(ctx context.Context) (configText, error) {
	kept := p.lastGood(ctx)
	if kept.config != nil {
		p.config.Store(kept.config)
		p.configHash.Store(&kept.hash)
	}
	p.fromConfigMap.Store(kept.origin.configMap != "" && kept.origin.configMap == p.options.ConfigMap.String())
	if ctx.Err() != nil {
		return configText{}, ctx.Err()
	}
	services, err := p.listers.services.List(labels.Everything())
	if err != nil {
		return configText{}, err
	}
	known, shared, released := p.knownServices(services)
	findings, err := p.core.restoreServices(coreConfig(p.config.Load()), known, shared, released)
	if err != nil {
		return configText{}, err
	}
	p.tellFindings(findings, services)
	newest, err := p.firstConfig(ctx)
	if err != nil {
		return configText{}, err
	}
	if newest.err != nil {
		p.configRejected(newest.err)
	} else {
		p.reloadConfig(newest)
	}
	if p.configError.Load() != nil {
		p.core.reassignServices() // under the last good one
	}
	p.decideWithoutClass()
	p.options.Logger.Info("restored addresses", "services", len(known))
	close(p.restored)
	p.queueAll(services)
	return newest, nil
}

// firstConfig returns the newest cloud-config. It asks until the API server answers or ctx
// ends.
func (p *Provider) firstConfig(ctx context.Context) (configText, error) {
	for p.options.ConfigMap.Name != "" {
		err := p.lookAtConfigMap(ctx)
		if err == nil {
			break
		}
		p.options.Logger.Warn("the cloud-config cannot be fetched; trying on", "err", err)
		select {
		case <-ctx.Done():
			return configText{}, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return p.newestConfig(), nil
}

// queueAll queues every Service: first those that wait for an address, the oldest first,
// then those that were listed, of which some may be gone by now, and those that came since.
func (p *Provider) queueAll(listed []*corev1.Service) {
	slices.SortStableFunc(listed, func(a, b *corev1.Service) int {
		return cmp.Or(min(len(a.Status.LoadBalancer.Ingress), 1)-min(len(b.Status.LoadBalancer.Ingress), 1),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time))
	})
	for _, svc := range listed {
		p.queue.Add(svc.Namespace + "/" + svc.Name)
	}
	for _, key := range p.allServices() {
		p.queue.Add(key)
	}
}

// tellFindings says what of the statuses could not be taken over as it was. Of an address
// that is kept the Service's conditions tell.
func (p *Provider) tellFindings(findings []ipam.Finding, services []*corev1.Service) {
	byUID := map[string]*corev1.Service{}
	for _, svc := range services {
		byUID[string(svc.UID)] = svc
	}
	for _, f := range findings {
		p.options.Logger.Warn("address in a Service's status", "service", f.Holder.String(), "address", f.Address, "kept", f.Kept, "reason", f.Refusal.Reason, "message", f.Refusal.Message)
		if !f.Kept {
			p.recorder.Eventf(byUID[f.Holder.UID], corev1.EventTypeWarning, string(f.Refusal.Reason), "%s is taken out of the status: %s", f.Address, f.Refusal.Message)
		}
	}
}

// knownServices translates the Services that may hold an address, and says which of them have
// shared it, and those whose address was freed although their status shows it. One with our
// finalizer or conditions holds its addresses although its class is not served now, until
// they have left its status.
func (p *Provider) knownServices(services []*corev1.Service) (known []loadbalancer.Service, shared map[string]bool, released []loadbalancer.Service) {
	shared = map[string]bool{}
	for _, svc := range services {
		ours := wantsAddress(svc, p.servedClasses()) || svc.Spec.Type == corev1.ServiceTypeLoadBalancer && isMarked(svc)
		switch {
		case !ours || len(svc.Status.LoadBalancer.Ingress) == 0:
		case letGo(svc):
			released = append(released, p.translateService(svc))
		default:
			known = append(known, p.translateService(svc))
			shared[string(svc.UID)] = conditionOf(svc, ConditionShared) != nil
		}
	}
	return known, shared, released
}

// letGo reports whether svc is being deleted and its address was freed already: what it
// waits for is the finalizer of another controller.
func letGo(svc *corev1.Service) bool {
	return svc.DeletionTimestamp != nil && !servicehelpers.HasLBFinalizer(svc) && !slices.Contains(svc.Finalizers, Finalizer)
}
