package cloud

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"baremetal.cloud/ccm/pkg/cloud/config"
)

func allocated(svc *corev1.Service) {
	svc.Status.Conditions = []metav1.Condition{{Type: ConditionAllocated, Status: metav1.ConditionTrue}}
}

// Part 2 of issue 16: a cloud-config is compared with the cluster before it is applied.
func TestDoubtsBeforeTheConfigIsApplied(t *testing.T) {
	objects := []runtime.Object{
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.0.1.0/24"}},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.2"}}}},
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/12"}}},
		loadBalancer("kept", withStatus("10.0.0.1"), allocated),
		loadBalancer("outside", withStatus("10.9.9.9"), allocated),
		loadBalancer("another", withStatus("10.8.8.8")),
		loadBalancer("classed", withStatus("10.0.0.3"), allocated, withClass("example.org/old")),
		loadBalancer("internal", func(svc *corev1.Service) { svc.Spec.ClusterIPs = []string{"10.0.0.9"} }),
	}
	const text = "apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\npools: [{name: a, addresses: [10.0.0.0/23, 10.96.7.0/24]}]\n"
	check := func(text string, client *fake.Clientset) []string {
		cfg, _, err := config.Parse([]byte(text), "c.yaml")
		require.NoError(t, err)
		found, err := Doubts(t.Context(), client, cfg)
		require.NoError(t, err)
		return found
	}
	client := fake.NewClientset(objects...)
	require.Equal(t, []string{
		"Service default/classed of class example.org/old holds an address and would not be served; the running CCM refuses this cloud-config while it does (onShrink: Refuse)",
		"Service default/outside holds 10.9.9.9, which would be in no pool; the running CCM refuses this cloud-config while it does (onShrink: Refuse)",
		`pool "a" contains 10.0.0.2, which is an address of node node1; take it out of the pool`,
		`pool "a" overlaps 10.0.1.0/24, which is for the Pods of node node1`,
		`pool "a" overlaps 10.96.0.0/12, the range of cluster IPs; take it out of the pool`,
		`pool "a" overlaps the range of cluster IPs: it contains 10.0.0.9`,
	}, check(text, client))
	require.Contains(t, strings.Join(check(text+"onShrink: Reassign\nservicesWithoutClass: false\n", client), "\n"),
		"Service default/kept without a class holds an address and would not be served; it loses the address (onShrink: Reassign)")
	for _, action := range client.Actions() {
		require.Equal(t, "list", action.GetVerb(), "nothing is changed")
	}

	// Before Kubernetes 1.33 there are no ServiceCIDRs.
	client.PrependReactor("list", "servicecidrs", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewNotFound(networkingv1.Resource("servicecidrs"), "")
	})
	require.Len(t, check(text, client), 5)
	client.PrependReactor("list", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(corev1.Resource("services"), "", nil)
	})
	cfg, _, err := config.Parse([]byte(text), "c.yaml")
	require.NoError(t, err)
	_, err = Doubts(t.Context(), client, cfg)
	require.ErrorContains(t, err, "list Services: ")
}
