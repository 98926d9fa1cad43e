package kubelet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// pod runs one Pod from binding to deletion.
type pod struct {
	agent   *Agent
	volumes *volumes
	// changed wakes the status loop.
	changed chan struct{}
	// ended is closed once the Pod is to end.
	ended chan struct{}

	mu         sync.Mutex
	current    *corev1.Pod
	vanished   bool
	address    lan.Pair
	problem    string
	containers []*container
}

func newPod(a *Agent, object *corev1.Pod) *pod {
	p := &pod{agent: a, current: object, changed: make(chan struct{}, 1), ended: make(chan struct{})}
	p.volumes = newVolumes(p, filepath.Join(a.Dir, "pods", string(object.UID)))
	if object.DeletionTimestamp != nil {
		close(p.ended)
	}
	return p
}

func (p *pod) key() string { return p.object().Namespace + "/" + p.object().Name }

// object returns the Pod as the API server last showed it.
func (p *pod) object() *corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

func (p *pod) addresses() lan.Pair {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.address
}

func (p *pod) list() []*container {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.containers
}

func (p *pod) poke() {
	p.agent.Changed()
	p.look()
}

// look has the status compared with the API server's, and put right.
func (p *pod) look() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// update takes note of the Pod as the API server shows it. Another may have written the
// status: the Pods of a node that was away are called not ready by the control plane, and
// it is the kubelet's part to say that they are.
func (p *pod) update(object *corev1.Pod) {
	p.mu.Lock()
	p.current = object
	p.mu.Unlock()
	p.look()
	if object.DeletionTimestamp != nil {
		p.end()
	}
}

// vanish ends a Pod whose object is gone already.
func (p *pod) vanish() {
	p.mu.Lock()
	p.vanished = true
	p.mu.Unlock()
	p.end()
}

func (p *pod) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
	default:
		close(p.ended)
	}
}

// fail records why the Pod cannot run; "" clears it.
func (p *pod) fail(problem string) {
	p.mu.Lock()
	changed := p.problem != problem
	p.problem = problem
	p.mu.Unlock()
	if changed {
		p.poke()
	}
}

func (p *pod) grace() time.Duration {
	object := p.object()
	if s := object.DeletionGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	if s := object.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 30 * time.Second
}

// user is who the Pod's containers run as, and whom its tokens belong to.
func (p *pod) user() int {
	spec := p.object().Spec
	if s := spec.Containers[0].SecurityContext; s != nil && s.RunAsUser != nil {
		return int(*s.RunAsUser)
	}
	if s := spec.SecurityContext; s != nil && s.RunAsUser != nil {
		return int(*s.RunAsUser)
	}
	return 0
}

// netNS is the namespace that the Pod's processes live in.
func (p *pod) netNS() string {
	object := p.object()
	if object.Spec.HostNetwork {
		return p.agent.Node.NetNS
	}
	return lan.Prefix(p.agent.TestbedID) + "pod-" + short(object)
}

// port is the name of the node's interface towards the Pod.
func (p *pod) port() string { return "pod" + short(p.object()) }

func short(object *corev1.Pod) string {
	return strings.ReplaceAll(string(object.UID), "-", "")[:10]
}

// run carries the Pod through its life.
func (p *pod) run(ctx context.Context) {
	defer p.cleanUp(context.WithoutCancel(ctx))
	if err := p.sandbox(ctx); err != nil {
		p.agent.Logger.Error("no network for the Pod", "pod", p.key(), "err", err)
		p.fail(err.Error())
	}
	life, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { p.live(life) })
	p.report(ctx)
	for _, c := range p.list() {
		c.service.SetGrace(p.grace())
	}
	stop()
	group.Wait()
	p.deleteObject(ctx)
}

// sandbox gives the Pod its addresses and, off the host network, its namespace.
func (p *pod) sandbox(ctx context.Context) error {
	address := p.agent.Node.Primary()
	if !p.object().Spec.HostNetwork {
		address = p.agent.takeAddress()
	}
	p.mu.Lock()
	p.address = address
	p.mu.Unlock()
	if p.object().Spec.HostNetwork {
		return nil
	}
	if err := lan.AddNetNS(ctx, p.netNS()); err != nil {
		return err
	}
	for _, s := range p.agent.Node.PodScript(p.netNS(), p.port(), address) {
		if err := netns.Batch(ctx, s.NetNS, s.Commands); err != nil {
			return err
		}
	}
	return nil
}

func (p *pod) cleanUp(ctx context.Context) {
	if !p.object().Spec.HostNetwork {
		if err := netns.Delete(ctx, p.netNS()); err != nil {
			p.agent.Logger.Error("cannot remove the Pod's network", "pod", p.key(), "err", err)
		}
	}
	if err := os.RemoveAll(p.volumes.dir); err != nil {
		p.agent.Logger.Error("cannot remove the Pod's volumes", "pod", p.key(), "err", err)
	}
}

// live fills the volumes and then runs the containers until ctx ends.
func (p *pod) live(ctx context.Context) {
	containers, err := p.makeContainers()
	if err != nil {
		p.fail(err.Error())
		<-ctx.Done()
		return
	}
	var group sync.WaitGroup
	group.Go(func() {
		p.volumes.run(ctx, func() {
			p.mu.Lock()
			p.containers = containers
			p.mu.Unlock()
			p.fail("")
			for _, c := range containers {
				// Asked after the containers can be found, so that Hold misses none.
				if p.agent.isHeld(imageName(c.spec.Image)) {
					c.service.SetHeld()
				}
				group.Go(func() { c.run(ctx) })
			}
		}, func(err error) { p.fail(err.Error()) })
	})
	group.Wait()
}

func (p *pod) makeContainers() ([]*container, error) {
	spec := p.object().Spec
	if len(spec.InitContainers) > 0 {
		return nil, fmt.Errorf("init containers are not supported by the testbed")
	}
	var containers []*container
	for _, s := range spec.Containers {
		c, err := p.newContainer(s)
		if err != nil {
			return nil, err
		}
		containers = append(containers, c)
	}
	return containers, nil
}

// report posts the Pod's status whenever it changes, until the Pod is to end.
func (p *pod) report(ctx context.Context) {
	p.poke()
	for {
		select {
		case <-p.changed:
		case <-p.ended:
			return
		case <-ctx.Done():
			return
		}
		if err := p.postStatus(ctx); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
			p.agent.Logger.Warn("status not posted", "pod", p.key(), "err", err)
			time.AfterFunc(time.Second, p.poke)
		}
	}
}

// deleteObject removes the Pod's object once nothing of it runs.
func (p *pod) deleteObject(ctx context.Context) {
	object := p.object()
	for ctx.Err() == nil && !p.isVanished() {
		now := int64(0)
		err := p.agent.Client.CoreV1().Pods(object.Namespace).Delete(ctx, object.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(object.UID)),
		})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		p.agent.Logger.Warn("Pod not deleted", "pod", p.key(), "err", err)
		sleep(ctx, time.Second)
	}
}

func (p *pod) isVanished() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.vanished
}
