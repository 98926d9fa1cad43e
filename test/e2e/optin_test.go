//go:build e2e

package e2e

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	cloudprovider "k8s.io/cloud-provider"
	servicecontroller "k8s.io/cloud-provider/controllers/service"
	fakecloud "k8s.io/cloud-provider/fake"
	servicehelpers "k8s.io/cloud-provider/service/helpers"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// anotherCloud is the load balancer of another cloud, for the stock service controller.
type anotherCloud struct {
	mu sync.Mutex
	// asked and deleted are the names of Services.
	asked, deleted []string
}

// theirAddress is what it gives every Service.
const theirAddress = "198.51.100.7"

func (a *anotherCloud) note(list *[]string, svc *corev1.Service) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*list = append(*list, svc.Name)
}

func (a *anotherCloud) names(list *[]string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(*list)
}

func (a *anotherCloud) status() *corev1.LoadBalancerStatus {
	mode := corev1.LoadBalancerIPModeProxy
	return &corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: theirAddress, IPMode: &mode}}}
}

func (a *anotherCloud) GetLoadBalancer(context.Context, string, *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	return a.status(), true, nil
}

func (a *anotherCloud) GetLoadBalancerName(_ context.Context, _ string, svc *corev1.Service) string {
	return svc.Name
}

func (a *anotherCloud) EnsureLoadBalancer(_ context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	a.note(&a.asked, svc)
	return a.status(), nil
}

func (a *anotherCloud) UpdateLoadBalancer(context.Context, string, *corev1.Service, []*corev1.Node) error {
	return nil
}

func (a *anotherCloud) EnsureLoadBalancerDeleted(_ context.Context, _ string, svc *corev1.Service) error {
	a.note(&a.deleted, svc)
	return nil
}

// theirs is a cloud with that load balancer and nothing else.
type theirs struct {
	*fakecloud.Cloud
	balancer *anotherCloud
}

func (c theirs) LoadBalancer() (cloudprovider.LoadBalancer, bool) { return c.balancer, true }

// anotherController runs the stock service controller of another cloud on the cluster.
func (l *lab) anotherController() *anotherCloud {
	l.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	factory := informers.NewSharedInformerFactory(l.client, 0)
	balancer := &anotherCloud{}
	controller, err := servicecontroller.New(theirs{&fakecloud.Cloud{}, balancer}, l.client,
		factory.Core().V1().Services(), factory.Core().V1().Nodes(), "another", utilfeature.DefaultFeatureGate)
	require.NoError(l, err)
	factory.Start(ctx.Done())
	var running sync.WaitGroup
	running.Go(func() { controller.Run(ctx, 1, controllersmetrics.NewControllerManagerMetrics("another")) })
	l.Cleanup(func() {
		cancel()
		running.Wait()
		factory.Shutdown()
	})
	return balancer
}

// written returns those who wrote to a Service, of the fields that are still as they wrote them.
func (l *lab) written(name string) []string {
	l.Helper()
	var out []string
	for _, entry := range l.get(name).ManagedFields {
		out = append(out, entry.Manager)
	}
	return out
}

// TestOptIn shows servicesWithoutClass: false beside a second controller that serves the
// Services without a class, by the same finalizer.
func TestOptIn(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 2, Proxy: "nftables", Mgmt: "lan"})
	ours, second := "baremetal.cloud/lb", "example.org/lb"

	t.Run("the key turns only without holders", func(t *testing.T) {
		l := l.with(t)
		l.create("before", nil)
		l.address("before")
		l.editConfig(func(text string) string {
			var kept []string
			for line := range strings.Lines(text) {
				if !strings.HasPrefix(line, "loadBalancerClasses:") && !strings.HasPrefix(line, "servicesWithoutClass:") {
					kept = append(kept, line)
				}
			}
			return strings.Join(kept, "") + "\nservicesWithoutClass: false\nloadBalancerClasses: [" + ours + ", " + second + "]\n"
		})
		l.toldOf(system, "baremetal-cloud-config", "CloudConfigRefused", "default/before without a class; keep true")
		l.delete("before")
		l.toldOf(system, "baremetal-cloud-config", "RestartNeeded", "servicesWithoutClass is false now")
		l.stop("ccm")
		l.start("ccm")
		l.leader("")
	})

	balancer := l.anotherController()
	t.Run("both serve what is theirs", func(t *testing.T) {
		l := l.with(t)
		l.create("theirs", func(svc *corev1.Service) {
			svc.Annotations = map[string]string{"baremetal.cloud/pool": "default"}
		})
		l.eventually(func(t *assert.CollectT) {
			svc := l.get("theirs")
			require.Len(t, svc.Status.LoadBalancer.Ingress, 1)
			require.Equal(t, theirAddress, svc.Status.LoadBalancer.Ingress[0].IP)
		})
		for name, class := range map[string]string{"ours": ours, "second": second} {
			l.create(name, func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &class })
			address := l.address(name)
			require.True(t, l.c.PoolV4().Contains(address))
			l.addressOwner(address)
			l.requested(address)
			require.Equal(t, []string{"baremetal.cloud/load-balancer-cleanup"}, l.get(name).Finalizers)
		}
	})
	t.Run("a new leader, an edit and a node's label touch nothing of another's", func(t *testing.T) {
		l := l.with(t)
		l.annotate("theirs", "baremetal.cloud/addresses", l.poolAddress(5).String())
		l.label("node2", corev1.LabelNodeExcludeBalancers, "true")
		before := l.leader("")
		l.stop("ccm:" + l.nodeOfReplica(before))
		l.leader(before)
		address := l.address("ours")
		l.addressOwner(address)
		l.unlabel("node2", corev1.LabelNodeExcludeBalancers)
		// By the time the new leader has served another one it has looked at theirs.
		l.create("later", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &ours })
		l.addressOwner(l.address("later"))
		require.NotContains(t, l.written("theirs"), "baremetal-ccm")
		require.Contains(t, l.written("later"), "baremetal-ccm")
		svc := l.get("theirs")
		require.Equal(t, []string{servicehelpers.LoadBalancerCleanupFinalizer}, svc.Finalizers)
		require.Empty(t, svc.Status.Conditions)
		events, err := l.client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=theirs"})
		require.NoError(t, err)
		for _, event := range events.Items {
			require.NotEqual(t, "baremetal-ccm", event.Source.Component, event.Message)
		}
		require.NotEmpty(t, events.Items, "the other controller's")
	})
	t.Run("each is deleted by its own", func(t *testing.T) {
		l := l.with(t)
		address := l.address("ours")
		l.delete("theirs")
		for _, name := range []string{"ours", "second", "later"} {
			l.delete(name)
		}
		l.silent(address)
		require.Equal(t, []string{"theirs"}, balancer.names(&balancer.deleted))
		require.Equal(t, []string{"theirs"}, slices.Compact(slices.Sorted(slices.Values(balancer.names(&balancer.asked)))))
	})
}
