package cloud

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// listers read what is watched.
type listers struct {
	services   corelisters.ServiceLister
	namespaces corelisters.NamespaceLister
	nodes      corelisters.NodeLister
	slices     cache.Indexer
	// published are the Services by the addresses in their status.
	published cache.Indexer
}

// stillListing is the time between two log lines that something could not be listed yet.
const stillListing = 30 * time.Second

// Watch follows the objects that the provider is about until ctx ends, on a standby as
// well as on the leader, so that a leader does not begin by reading thousands of objects.
func (p *Provider) Watch(ctx context.Context) error {
	began := time.Now()
	p.options.Informers.Start(ctx.Done())
	defer p.options.Informers.Shutdown()
	for !p.waitSynced(ctx, stillListing) {
		if ctx.Err() != nil {
			return nil
		}
		p.options.Logger.Warn("not everything is listed yet; this replica does not stand for election before",
			"waited", time.Since(began).Round(time.Second))
	}
	close(p.warm)
	<-ctx.Done()
	return nil
}

// Warm is closed once Watch has seen everything that there is. A replica that leads
// earlier keeps others waiting.
func (p *Provider) Warm() <-chan struct{} { return p.warm }

// waitSynced reports whether everything was seen before the time is over.
func (p *Provider) waitSynced(ctx context.Context, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return cache.WaitForCacheSync(ctx.Done(), syncFuncs(p.synced)...)
}

func syncFuncs(in []func() bool) []cache.InformerSynced {
	out := make([]cache.InformerSynced, 0, len(in))
	for _, f := range in {
		out = append(out, f)
	}
	return out
}

// watch registers the handlers that feed the core. The informers are started by Watch.
func (p *Provider) watch(factory informers.SharedInformerFactory) {
	services := factory.Core().V1().Services()
	namespaces := factory.Core().V1().Namespaces()
	nodes := factory.Core().V1().Nodes()
	slices := factory.Discovery().V1().EndpointSlices()
	utilruntime.Must(slices.Informer().AddIndexers(cache.Indexers{bySlicesService: indexBySlicesService}))
	utilruntime.Must(services.Informer().AddIndexers(cache.Indexers{byPublished: indexByPublished}))
	p.listers = listers{
		services:   services.Lister(),
		namespaces: namespaces.Lister(),
		nodes:      nodes.Lister(),
		slices:     slices.Informer().GetIndexer(),
		published:  services.Informer().GetIndexer(),
	}
	p.handle(services.Informer(), func(obj any, _ bool) { p.serviceChanged(obj) })
	p.handle(nodes.Informer(), p.nodeChanged)
	p.handle(slices.Informer(), func(obj any, _ bool) { p.sliceChanged(obj) })
	p.handle(namespaces.Informer(), func(obj any, _ bool) { p.namespaceChanged(obj) })
}

// handle calls changed for each change of an object, and makes the controller wait
// until it has seen those that exist.
func (p *Provider) handle(informer cache.SharedIndexInformer, changed func(obj any, gone bool)) {
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { changed(obj, false) },
		UpdateFunc: func(_, obj any) { changed(obj, false) },
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			changed(obj, true)
		},
	})
	utilruntime.Must(err)
	p.synced = append(p.synced, registration.HasSynced)
}

// serviceChanged queues a Service. What comes before the restore is queued by it.
func (p *Provider) serviceChanged(obj any) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return
	}
	select {
	case <-p.restored:
		p.queue.Add(svc.Namespace + "/" + svc.Name)
	default:
	}
}

func (p *Provider) nodeChanged(obj any, gone bool) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return
	}
	if gone {
		p.core.deleteNode(n.Name, n.UID)
		return
	}
	p.core.setNode(nodeOf(n))
}

func (p *Provider) sliceChanged(obj any) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok || sliceService(s) == "" {
		return
	}
	key := sliceService(s)
	objs, err := p.listers.slices.ByIndex(bySlicesService, key)
	utilruntime.Must(err) // the index is registered above
	var all []*discoveryv1.EndpointSlice
	for _, o := range objs {
		if s, ok := o.(*discoveryv1.EndpointSlice); ok {
			all = append(all, s)
		}
	}
	p.core.setEndpoints(key, endpointsOf(all))
}

// namespaceChanged asks again for the Services of a namespace, whose labels may decide
// which pools they may use.
func (p *Provider) namespaceChanged(obj any) {
	ns, ok := obj.(*corev1.Namespace)
	if !ok {
		return
	}
	for _, key := range p.core.keysIn(ns.Name) {
		p.queue.Add(key)
	}
}

// allServices returns the keys of all Services.
func (p *Provider) allServices() []string {
	services, err := p.listers.services.List(labels.Everything())
	utilruntime.HandleError(err)
	out := make([]string, 0, len(services))
	for _, svc := range services {
		out = append(out, svc.Namespace+"/"+svc.Name)
	}
	return out
}
