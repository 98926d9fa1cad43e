package cloud

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"baremetal.cloud/ccm/pkg/cloud/livewatch"
)

// listers read what is watched.
type listers struct {
	services   corelisters.ServiceLister
	namespaces corelisters.NamespaceLister
	nodes      corelisters.NodeLister
	slices     cache.Indexer
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
	p.followWatches(ctx)
	return nil
}

// followWatches retries the election as soon as a watch is restored: the API server is
// back then, and the next attempt may be seconds away.
func (p *Provider) followWatches(ctx context.Context) {
	broken := 0
	for {
		changed := p.options.Watches.Changed()
		before := broken
		if broken = len(p.options.Watches.Broken()); broken < before {
			p.options.Elector.Retry()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
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

// addHandlers registers the handlers that feed the core. The informers are started by Watch;
// those of the stock controllers are the same.
func (p *Provider) addHandlers(factory informers.SharedInformerFactory) {
	core, discovery := p.options.Client.CoreV1(), p.options.Client.DiscoveryV1()
	p.services = p.addSource(factory, "Services", &corev1.Service{},
		listWatch(core.Services(metav1.NamespaceAll).List, core.Services(metav1.NamespaceAll).Watch))
	nodeSource := p.addSource(factory, "Nodes", &corev1.Node{}, listWatch(core.Nodes().List, core.Nodes().Watch))
	namespaceSource := p.addSource(factory, "Namespaces", &corev1.Namespace{}, listWatch(core.Namespaces().List, core.Namespaces().Watch))
	sliceSource := p.addSource(factory, "EndpointSlices", &discoveryv1.EndpointSlice{},
		listWatch(discovery.EndpointSlices(metav1.NamespaceAll).List, discovery.EndpointSlices(metav1.NamespaceAll).Watch))

	services := factory.Core().V1().Services()
	namespaces := factory.Core().V1().Namespaces()
	nodes := factory.Core().V1().Nodes()
	slices := factory.Discovery().V1().EndpointSlices()
	utilruntime.Must(slices.Informer().AddIndexers(cache.Indexers{bySlicesService: indexBySlicesService}))
	utilruntime.Must(p.options.Nodes.Follow(nodes.Informer()))
	p.listers = listers{
		services:   services.Lister(),
		namespaces: namespaces.Lister(),
		nodes:      nodes.Lister(),
		slices:     slices.Informer().GetIndexer(),
	}
	p.addHandler(services.Informer(), p.services, func(obj any, _ bool) { p.serviceChanged(obj) })
	p.addHandler(nodes.Informer(), nodeSource, p.nodeChanged)
	p.addHandler(slices.Informer(), sliceSource, func(obj any, _ bool) { p.sliceChanged(obj) })
	p.addHandler(namespaces.Informer(), namespaceSource, func(obj any, _ bool) { p.namespaceChanged(obj) })
}

// listWatch makes a ListerWatcher of two methods of a typed client.
func listWatch[L runtime.Object](
	list func(context.Context, metav1.ListOptions) (L, error),
	follow func(context.Context, metav1.ListOptions) (watch.Interface, error),
) cache.ListerWatcherWithContext {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return list(ctx, options)
		},
		WatchFuncWithContext: follow,
	}
}

// addSource feeds the factory's informer of a kind by a Source, which repairs its watch and
// knows how new its cache is.
func (p *Provider) addSource(factory informers.SharedInformerFactory, kind string, example runtime.Object, server cache.ListerWatcherWithContext) *livewatch.Source {
	source := p.options.Watches.Add(kind, server)
	factory.InformerFor(example, func(_ kubernetes.Interface, resync time.Duration) cache.SharedIndexInformer {
		return cache.NewSharedIndexInformerWithOptions(source, example, cache.SharedIndexInformerOptions{
			ResyncPeriod: resync,
			Indexers:     cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc},
		})
	})
	return source
}

// addHandler calls changed for each change of an object, and makes the controller wait
// until it has seen those that exist.
func (p *Provider) addHandler(informer cache.SharedIndexInformer, source *livewatch.Source, changed func(obj any, gone bool)) {
	registration, err := informer.AddEventHandler(source.Handler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { changed(obj, false) },
		UpdateFunc: func(_, obj any) { changed(obj, false) },
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			changed(obj, true)
		},
	}))
	utilruntime.Must(err)
	p.synced = append(p.synced, registration.HasSynced)
}

// serviceChanged queues a Service. What comes before the restore is queued by it.
func (p *Provider) serviceChanged(obj any) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return
	}
	p.networksChanged.Store(true)
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
	p.networksChanged.Store(true)
	if gone {
		p.core.deleteNode(n.Name, n.UID)
		p.terms.forgetNode(n.Name)
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
