package kubelet

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	v1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// Scheduler binds pending Pods to nodes. It knows node selectors, required node
// affinity, taints, host ports and required anti-affinity between Pods of one node, and
// otherwise spreads the Pods of one owner over the nodes in the order of Nodes.
type Scheduler struct {
	Client kubernetes.Interface
	Nodes  []string
	Logger *slog.Logger
}

// Run binds until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactory(s.Client, 0)
	pods, nodes := factory.Core().V1().Pods(), factory.Core().V1().Nodes()
	wake := make(chan struct{}, 1)
	poke := func(any) {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: poke, UpdateFunc: func(_, o any) { poke(o) }, DeleteFunc: poke}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), nodes.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	defer factory.Shutdown()
	// Bindings are assumed until the informer shows them.
	assumed := map[string]string{}
	for {
		select {
		case <-wake:
		case <-ctx.Done():
			return nil
		}
		allPods, err := pods.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		allNodes, err := nodes.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		if !s.bindPending(ctx, allPods, s.sorted(allNodes), assumed) {
			time.AfterFunc(time.Second, func() { poke(nil) })
		}
	}
}

func (s *Scheduler) sorted(nodes []*corev1.Node) []*corev1.Node {
	index := func(n *corev1.Node) int { return slices.Index(s.Nodes, n.Name) }
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n *corev1.Node) bool { return index(n) < 0 })
	slices.SortFunc(nodes, func(a, b *corev1.Node) int { return cmp.Compare(index(a), index(b)) })
	return nodes
}

// bindPending reports whether every binding that was possible succeeded.
func (s *Scheduler) bindPending(ctx context.Context, pods []*corev1.Pod, nodes []*corev1.Node, assumed map[string]string) bool {
	placed := make([]*corev1.Pod, 0, len(pods))
	var pending []*corev1.Pod
	for _, p := range pods {
		switch node := assumed[string(p.UID)]; {
		case p.Spec.NodeName != "":
			delete(assumed, string(p.UID))
			placed = append(placed, p)
		case node != "":
			p = p.DeepCopy()
			p.Spec.NodeName = node
			placed = append(placed, p)
		case p.DeletionTimestamp == nil:
			pending = append(pending, p)
		}
	}
	slices.SortFunc(pending, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	ok := true
	for _, p := range pending {
		node := choose(p, nodes, placed)
		if node == "" {
			continue
		}
		if err := s.bind(ctx, p, node); err != nil {
			s.Logger.Warn("cannot bind", "pod", p.Namespace+"/"+p.Name, "err", err)
			ok = false
			continue
		}
		assumed[string(p.UID)] = node
		p = p.DeepCopy()
		p.Spec.NodeName = node
		placed = append(placed, p)
	}
	return ok
}

func (s *Scheduler) bind(ctx context.Context, p *corev1.Pod, node string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return s.Client.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, UID: p.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
}

// choose returns the first of the nodes that fit p which have fewest Pods of p's
// owner, or "".
func choose(p *corev1.Pod, nodes []*corev1.Node, placed []*corev1.Pod) string {
	best, fewest := "", 0
	for _, n := range nodes {
		here := slices.DeleteFunc(slices.Clone(placed), func(o *corev1.Pod) bool {
			return o.Spec.NodeName != n.Name || finished(o)
		})
		if !fits(p, n, here) {
			continue
		}
		siblings := 0
		for _, o := range here {
			if sameOwner(p, o) {
				siblings++
			}
		}
		if best == "" || siblings < fewest {
			best, fewest = n.Name, siblings
		}
	}
	return best
}

func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func sameOwner(a, b *corev1.Pod) bool {
	x, y := metav1.GetControllerOf(a), metav1.GetControllerOf(b)
	return x != nil && y != nil && x.UID == y.UID
}

// fits reports whether p may run on n beside the Pods that are there.
func fits(p *corev1.Pod, n *corev1.Node, here []*corev1.Pod) bool {
	if match, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(n); err != nil || !match {
		return false
	}
	_, tainted := v1helpers.FindMatchingUntoleratedTaint(klog.Background(), n.Spec.Taints, p.Spec.Tolerations, func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	}, false)
	if tainted {
		return false
	}
	for _, other := range here {
		if repels(p, other) || repels(other, p) || shareHostPort(p, other) {
			return false
		}
	}
	return true
}

// repels reports whether a's required anti-affinity keeps b off its node.
func repels(a, b *corev1.Pod) bool {
	if a.Spec.Affinity == nil || a.Spec.Affinity.PodAntiAffinity == nil || a.Namespace != b.Namespace {
		return false
	}
	for _, term := range a.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		selector, err := metav1.LabelSelectorAsSelector(term.LabelSelector)
		if err == nil && term.TopologyKey == corev1.LabelHostname && selector.Matches(labels.Set(b.Labels)) {
			return true
		}
	}
	return false
}

func shareHostPort(a, b *corev1.Pod) bool {
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	taken := map[key]bool{}
	for _, c := range a.Spec.Containers {
		for _, port := range c.Ports {
			taken[key{port.Protocol, port.HostPort}] = port.HostPort != 0
		}
	}
	for _, c := range b.Spec.Containers {
		for _, port := range c.Ports {
			if taken[key{port.Protocol, port.HostPort}] {
				return true
			}
		}
	}
	return false
}
