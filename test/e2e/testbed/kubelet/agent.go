// Package kubelet does kubelet's and the scheduler's part for a testbed and no more:
// it registers nodes and renews their leases, binds Pods, runs their containers as
// processes in network and mount namespaces, fills volumes, asks probes and reports
// status. Every node speaks for itself, with a node's credentials and from the node's
// own network namespace, so that cutting the node off silences it like a real one.
//
// What a Pod can ask for is limited to what the manifests under deploy/ need. Anything
// else is refused with a message in the Pod's status rather than ignored, except for
// seccomp profiles, resource limits, DNS policies and lifecycle hooks, which have no
// effect.
package kubelet

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/proc"
)

// Agent is the stand-in for one node's kubelet. Set the exported fields before Run.
type Agent struct {
	Node lan.Node
	// TestbedID begins the names of the Pods' network namespaces.
	TestbedID string
	// Labels are those of --node-labels.
	Labels map[string]string
	// External is set for a kubelet with --cloud-provider=external: its node waits to be
	// initialised by a cloud-controller-manager.
	External bool
	// Client speaks as the node and from its network namespace.
	Client kubernetes.Interface
	// CloseConnections drops the client's connections after a failed heartbeat.
	CloseConnections func()
	// ServiceAddress is host:port of the Service kubernetes, as Pods are told.
	ServiceAddress string
	Images         map[string]Image
	// Dir holds volumes and host paths, Logs the containers' output, Root is an empty
	// directory on which containers mount their root.
	Dir, Logs, Root string
	Spawner         *proc.Spawner
	Logger          *slog.Logger
	// Changed is called when a process has started or ended.
	Changed func()

	// hasRegistered reports whether the Node object was there once since Run or Register.
	hasRegistered atomic.Bool

	mu sync.Mutex
	// pods are those that run or are being ended, by UID.
	pods map[types.UID]*pod
	// held are names of images whose containers are not to run.
	held map[string]bool
	// addresses counts through the node's Pod addresses, so that a freed one is
	// used again late.
	lastAddress byte
}

// Run plays the node until ctx ends. Containers end with it.
func (a *Agent) Run(ctx context.Context) error {
	a.hasRegistered.Store(false)
	a.mu.Lock()
	a.pods, a.held, a.lastAddress = map[types.UID]*pod{}, map[string]bool{}, 1
	a.mu.Unlock()
	factory := informers.NewSharedInformerFactoryWithOptions(a.Client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", a.Node.Name).String()
		}))
	informer := factory.Core().V1().Pods().Informer()
	var group sync.WaitGroup
	see := func(o any) {
		if object, ok := o.(*corev1.Pod); ok {
			a.see(ctx, &group, object)
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    see,
		UpdateFunc: func(_, o any) { see(o) },
		DeleteFunc: a.gone,
	}); err != nil {
		return err
	}
	// A first beat makes the Node object; the authorizer lets a node watch Pods anyway.
	group.Go(func() { a.heartbeat(ctx) })
	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
	group.Wait()
	return nil
}

// see takes note of a Pod as it is now.
func (a *Agent) see(ctx context.Context, group *sync.WaitGroup, object *corev1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p, ok := a.pods[object.UID]; ok {
		p.update(object)
		return
	}
	if finished(object) {
		return
	}
	p := newPod(a, object)
	a.pods[object.UID] = p
	group.Go(func() {
		p.run(ctx)
		a.mu.Lock()
		delete(a.pods, object.UID)
		a.mu.Unlock()
		a.Changed()
	})
}

// gone takes note that a Pod was deleted without waiting for us.
func (a *Agent) gone(o any) {
	if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = unknown.Obj
	}
	object, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	a.mu.Lock()
	p := a.pods[object.UID]
	a.mu.Unlock()
	if p != nil {
		p.vanish()
	}
}

// Hold ends all containers of an image on this node and keeps new ones from starting.
func (a *Agent) Hold(ctx context.Context, image string) error {
	a.mu.Lock()
	a.held[image] = true
	a.mu.Unlock()
	for _, c := range a.containers(image) {
		// A shorter patience than the Pod's: whoever asks waits for it.
		c.service.SetGrace(min(c.pod.grace(), 5*time.Second))
		if err := c.service.Hold(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Release lets the containers of an image run again and waits until those that exist
// do.
func (a *Agent) Release(ctx context.Context, image string) error {
	a.mu.Lock()
	delete(a.held, image)
	a.mu.Unlock()
	for _, c := range a.containers(image) {
		c.service.Release()
		if err := c.service.WaitRunning(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) isHeld(image string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held[image]
}

// PIDs returns the processes that run an image here.
func (a *Agent) PIDs(image string) []int {
	var pids []int
	for _, c := range a.containers(image) {
		if pid := c.service.State().PID; pid != 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (a *Agent) containers(image string) []*container {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []*container
	for _, p := range a.pods {
		for _, c := range p.list() {
			if imageName(c.spec.Image) == image {
				list = append(list, c)
			}
		}
	}
	return list
}

// takeAddress returns a Pod address that no Pod of this node has.
func (a *Agent) takeAddress() lan.Pair {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		a.lastAddress++
		if a.lastAddress == 255 {
			a.lastAddress = 2
		}
		candidate, used := a.Node.PodAddress(a.lastAddress), false
		for _, p := range a.pods {
			used = used || p.addresses() == candidate
		}
		if !used {
			return candidate
		}
	}
}
