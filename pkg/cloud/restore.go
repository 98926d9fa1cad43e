package cloud

import (
	"cmp"
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"baremetal.cloud/ccm/pkg/cloud/cloudconfig"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
)

// restore takes over every address in a status before the first is given out, and then
// the cloud-config in the file, whose text it returns; nil where it cannot be read.
//
// The cache of Services holds what a list returned that began after leading did: what the
// leader before wrote last is in it, and no address is given out twice.
//
// The addresses are restored under the cloud-config that the leader before used. So a
// file that leaves a Service's address out is refused by a leader that has just begun as
// by one that leads for long, and an address that was answered goes on being answered.
func (p *Provider) restore(ctx context.Context) ([]byte, error) {
	if config := p.lastGood(ctx); config != nil {
		p.config.Store(config)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	services, err := p.listers.services.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	known, shared := p.known(services)
	findings, err := p.core.restore(coreConfig(p.config.Load()), known, shared)
	if err != nil {
		return nil, err
	}
	p.tellFindings(findings, services)
	text, err := cloudconfig.Read(p.options.ConfigPath)
	if err != nil {
		text = nil
		p.configRejected(err)
	} else {
		p.reload(text)
	}
	if p.configError.Load() != nil {
		p.core.reassign() // under the last good one
	}
	p.options.Logger.Info("restored addresses", "services", len(known))
	close(p.restored)
	p.queueAll(services)
	return text, nil
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

// known translates the Services that may hold an address, and says which of them have
// shared it.
func (p *Provider) known(services []*corev1.Service) (known []loadbalancer.Service, shared map[string]bool) {
	shared = map[string]bool{}
	for _, svc := range services {
		if !wanted(svc, p.class()) || len(svc.Status.LoadBalancer.Ingress) == 0 || letGo(svc) {
			continue
		}
		known = append(known, p.translate(svc))
		shared[string(svc.UID)] = condition(svc, ConditionShared) != nil
	}
	return known, shared
}

// letGo reports whether svc is being deleted and its address was freed already: what it
// waits for is somebody else's finalizer.
func letGo(svc *corev1.Service) bool {
	return svc.DeletionTimestamp != nil && !servicehelpers.HasLBFinalizer(svc) && !slices.Contains(svc.Finalizers, Finalizer)
}

// lastGood returns the cloud-config that the leader before used, or nil where there was
// none. It asks until the API server answers or ctx ends.
func (p *Provider) lastGood(ctx context.Context) *cloudconfig.Config {
	for {
		kept, err := p.client.CoreV1().ConfigMaps(p.options.Namespace).Get(ctx, LastGoodConfigMapName, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) || err == nil && kept.Data[ConfigMapKey] == "":
			return nil
		case err == nil:
			config, _, err := cloudconfig.Parse([]byte(kept.Data[ConfigMapKey]), "ConfigMap "+p.options.Namespace+"/"+LastGoodConfigMapName)
			if err != nil {
				p.options.Logger.Warn("the last good cloud-config cannot be read; going on without it", "err", err)
			}
			return config
		}
		p.options.Logger.Warn("the last good cloud-config cannot be fetched; trying on", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}
