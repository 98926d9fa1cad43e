package cloud

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	servicehelpers "k8s.io/cloud-provider/service/helpers"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// stockController runs the stock service controller on c until the test ends.
func (c *cluster) stockController() {
	c.t.Helper()
	done := make(chan error)
	ctx := c.t.Context()
	go func() {
		done <- c.p.RunServiceController(ctx, ServiceControllerOptions{
			Client: c.client, Workers: 4, ClusterName: "kubernetes", Metrics: controllersmetrics.NewControllerManagerMetrics("test"),
		})
	}()
	c.t.Cleanup(func() { require.NoError(c.t, <-done) })
}

// served waits until every Service has an address, its finalizer and its conditions.
func (c *cluster) served(n int) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		list, err := c.client.CoreV1().Services("default").List(c.t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		require.Len(t, list.Items, n)
		for _, svc := range list.Items {
			require.Len(t, svc.Status.LoadBalancer.Ingress, 1)
			require.True(t, servicehelpers.HasLBFinalizer(&svc))
			require.NotNil(t, conditionOf(&svc, ConditionAnnounced))
		}
	}, waitAtMost, 100*time.Millisecond)
}

// K6.6: a label of a node makes no Event on any Service, a new leader makes none, and the stock
// controller keeps no list of nodes for each Service.
func TestFault_K6_6_NoEventWithoutNews(t *testing.T) {
	const services = 300
	config := strings.ReplaceAll(pools, "10.0.0.0/30", "10.0.0.0/16")
	var objects []runtime.Object
	for i := range services {
		objects = append(objects, loadBalancer(fmt.Sprintf("web%d", i)))
	}
	for i := range 20 {
		objects = append(objects, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("other%d", i)}})
	}
	first := startWith(t, config, time.Now, objects...)
	first.stockController()
	first.served(services)
	for _, event := range first.events() {
		require.NotContains(t, event, "UpdatedLoadBalancer")
		require.NotContains(t, event, "EnsuringLoadBalancer")
		require.NotContains(t, event, "EnsuredLoadBalancer")
		require.NotContains(t, event, "UnAvailableLoadBalancer")
	}

	// The next leader finds what the one before left.
	list, err := first.client.CoreV1().Services("default").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	objects = objects[services:]
	for i := range list.Items {
		objects = append(objects, &list.Items[i])
	}
	next := startWith(t, config, time.Now, append(objects, lastGood(config))...)
	next.stockController()
	for i := range 20 { // a leader waits a while for nodes without an announcer
		next.p.NodeConnected(fmt.Sprintf("other%d", i), plan.Report{Interfaces: []plan.Interface{{Name: "eth0"}}})
	}
	<-next.p.restored
	exclude := func(exclude string) {
		for i := range 20 {
			n, err := next.client.CoreV1().Nodes().Get(t.Context(), fmt.Sprintf("other%d", i), metav1.GetOptions{})
			require.NoError(t, err)
			n.Labels = map[string]string{corev1.LabelNodeExcludeBalancers: exclude}
			_, err = next.client.CoreV1().Nodes().Update(t.Context(), n, metav1.UpdateOptions{})
			require.NoError(t, err)
		}
	}
	exclude("true")
	exclude("false")
	// The stock controller has come round when it serves a Service that was made last, and so
	// has ours.
	_, err = next.client.CoreV1().Services("default").Create(t.Context(), loadBalancer("last"), metav1.CreateOptions{})
	require.NoError(t, err)
	next.served(services + 1)
	for _, event := range next.eventsOfServices() {
		require.Contains(t, event, "last ")
	}
	nodes, err := newStandInNodes().Lister().List(labels.Everything())
	require.NoError(t, err)
	require.Len(t, nodes, 1, "what is kept for each Service, however many nodes there are")
}

// eventsOfServices returns the Events on Services, each with the name of its Service.
func (c *cluster) eventsOfServices() []string {
	c.t.Helper()
	list, err := c.client.CoreV1().Events("default").List(c.t.Context(), metav1.ListOptions{})
	require.NoError(c.t, err)
	var out []string
	for _, e := range list.Items {
		out = append(out, e.InvolvedObject.Name+" "+e.Source.Component+" "+e.Reason+" "+e.Message)
	}
	return out
}
