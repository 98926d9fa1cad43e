package cloud

import (
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

// watch registers the handlers that feed the core. The informers start after it.
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

func (p *Provider) serviceChanged(obj any) {
	if svc, ok := obj.(*corev1.Service); ok {
		p.queue.Add(svc.Namespace + "/" + svc.Name)
	}
}

func (p *Provider) nodeChanged(obj any, gone bool) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return
	}
	if gone {
		p.core.deleteNode(n.Name)
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
