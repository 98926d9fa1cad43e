package cloud

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	servicecontroller "k8s.io/cloud-provider/controllers/service"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"
	"k8s.io/klog/v2"
)

// ServiceControllerOptions are what the stock service controller is started with.
type ServiceControllerOptions struct {
	// Client is fenced.
	Client      kubernetes.Interface
	Workers     int
	ClusterName string
	Metrics     *controllersmetrics.ControllerManagerMetrics
}

// RunServiceController runs the stock service controller until ctx ends, where Services
// without a class are served: it writes and removes their finalizer, and calls
// EnsureLoadBalancerDeleted for them. Otherwise it does nothing, because the stock controller
// adds its finalizer before it asks, and removes one that another cloud's controller wrote.
func (p *Provider) RunServiceController(ctx context.Context, options ServiceControllerOptions) error {
	if err := p.waitRestored(ctx); err != nil || !*p.withoutClass.Load() {
		return nil // it ends, or leaves them alone
	}
	stock, err := servicecontroller.New(p, quietClient{options.Client}, p.options.Informers.Core().V1().Services(), newStandInNodes(),
		options.ClusterName, utilfeature.DefaultFeatureGate)
	if err != nil {
		return fmt.Errorf("stock service controller: %w", err)
	}
	// It logs each of its Events by this logger.
	stock.Run(klog.NewContext(ctx, klog.Background().V(eventVerbosity)), options.Workers, options.Metrics)
	return nil
}

// eventVerbosity is that of the log lines for Events of the stock controller: most tell
// nothing that is not in the Events.
const eventVerbosity = 4

// standInNodes holds one Node that stands for all, in place of the informer of Nodes. The
// stock controller keeps the list of nodes of each Service, and tells each Service when that
// changes; with no node at all it warns of each.
type standInNodes struct {
	cache.SharedIndexInformer
	lister corelisters.NodeLister
}

var _ coreinformers.NodeInformer = standInNodes{}

func newStandInNodes() standInNodes {
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	if err := store.Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "stand-in"}}); err != nil {
		panic(err) // it has a name
	}
	return standInNodes{lister: corelisters.NewNodeLister(store)}
}

// Informer implements coreinformers.NodeInformer.
func (s standInNodes) Informer() cache.SharedIndexInformer { return s }

// Lister implements coreinformers.NodeInformer.
func (s standInNodes) Lister() corelisters.NodeLister { return s.lister }

// HasSynced implements cache.SharedIndexInformer.
func (s standInNodes) HasSynced() bool { return true }

// AddEventHandlerWithResyncPeriod implements cache.SharedIndexInformer: nothing ever happens
// to the stand-in.
func (s standInNodes) AddEventHandlerWithResyncPeriod(cache.ResourceEventHandler, time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return nil, nil
}

// quietClient drops the Events of the stock controller that are no news.
type quietClient struct{ kubernetes.Interface }

func (c quietClient) CoreV1() typedcorev1.CoreV1Interface { return quietCore{c.Interface.CoreV1()} }

type quietCore struct{ typedcorev1.CoreV1Interface }

func (c quietCore) Events(namespace string) typedcorev1.EventInterface {
	return quietEvents{c.CoreV1Interface.Events(namespace)}
}

type quietEvents struct{ typedcorev1.EventInterface }

// CreateWithEventNamespace implements typedcorev1.EventInterface. The stock controller writes
// EnsuringLoadBalancer for each Service at each start.
func (e quietEvents) CreateWithEventNamespace(event *corev1.Event) (*corev1.Event, error) {
	if event.Reason == "EnsuringLoadBalancer" {
		return event, nil
	}
	return e.EventInterface.CreateWithEventNamespaceWithContext(context.Background(), event)
}

// PatchWithEventNamespace implements typedcorev1.EventInterface: it counts a repetition.
func (e quietEvents) PatchWithEventNamespace(event *corev1.Event, data []byte) (*corev1.Event, error) {
	if event.Reason == "EnsuringLoadBalancer" {
		return event, nil
	}
	return e.EventInterface.PatchWithEventNamespaceWithContext(context.Background(), event, data)
}
