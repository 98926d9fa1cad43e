package cloud

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
)

func TestServiceOf(t *testing.T) {
	policy := corev1.IPFamilyPolicyRequireDualStack
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "web", UID: "u", Labels: map[string]string{"a": "b"},
			Annotations: map[string]string{AnnotationPool: " gold ", AnnotationSharingKey: "k", AnnotationAddresses: "10.0.0.1, 2001:DB8::1"},
		},
		Spec: corev1.ServiceSpec{
			Type:                  corev1.ServiceTypeLoadBalancer,
			Ports:                 []corev1.ServicePort{{Port: 80}, {Port: 53, Protocol: corev1.ProtocolUDP}},
			Selector:              map[string]string{"x": "y", "app": "web"},
			IPFamilies:            []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol},
			IPFamilyPolicy:        &policy,
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
			LoadBalancerIP:        "10.0.0.1",
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{
			{Hostname: "example.org"}, {IP: "garbage"}, {IP: "10.0.0.9"},
		}}},
	}
	before := svc.DeepCopy()
	got := serviceOf(svc, map[string]string{"env": "prod"})
	require.Equal(t, before, svc, "a shared object is never modified")
	require.Equal(t, "gold", got.Pool)
	require.Equal(t, []ipam.Family{ipam.IPv6, ipam.IPv4}, got.Families)
	require.True(t, got.RequireAll)
	require.Equal(t, "[10.0.0.1 2001:db8::1]", text(got.Addresses))
	require.Equal(t, "[10.0.0.9]", text(got.Published))
	require.Equal(t, ipam.Sharing{
		Key: "k", Ports: []ipam.Port{{Protocol: "TCP", Number: 80}, {Protocol: "UDP", Number: 53}},
		Local: true, Selector: "default/app=web,x=y",
	}, got.Sharing)
	require.Empty(t, got.Unreadable)
	require.Equal(t, map[string]string{"env": "prod"}, got.NamespaceLabels)
}

// Row IP21: what cannot be understood is refused with its cause.
func TestServiceOfUnreadable(t *testing.T) {
	for name, c := range map[string]struct{ annotation, ip, want string }{
		"garbage in the annotation":     {"10.0.0.1,x", "", `annotation baremetal.cloud/addresses: "x" is not an IP address`},
		"an empty address among others": {"10.0.0.1,", "", `annotation baremetal.cloud/addresses: "" is not an IP address`},
		"garbage in spec":               {"", "10.0.0", `spec.loadBalancerIP: "10.0.0" is not an IP address`},
		"annotation and spec disagree":  {"10.0.0.1", "10.0.0.2", "spec.loadBalancerIP asks for 10.0.0.2, annotation baremetal.cloud/addresses for 10.0.0.1; make them agree or remove one"},
		"an address with a zone":        {"fe80::1%eth0", "", `annotation baremetal.cloud/addresses: "fe80::1%eth0" is not an IP address`},
		"a CIDR instead of an address ": {"10.0.0.0/24", "", `annotation baremetal.cloud/addresses: "10.0.0.0/24" is not an IP address`},
	} {
		t.Run(name, func(t *testing.T) {
			svc := &corev1.Service{Spec: corev1.ServiceSpec{LoadBalancerIP: c.ip}}
			if c.annotation != "" {
				svc.Annotations = map[string]string{AnnotationAddresses: c.annotation}
			}
			require.Equal(t, c.want, serviceOf(svc, nil).Unreadable)
		})
	}
}

func TestStatusIsExplicitAboutItsMode(t *testing.T) {
	status := statusOf(publishedAddresses(&corev1.Service{Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
		Ingress: []corev1.LoadBalancerIngress{{IP: "2001:db8:0::1"}},
	}}}), nil)
	require.Equal(t, "2001:db8::1", status.Ingress[0].IP)
	require.Equal(t, corev1.LoadBalancerIPModeVIP, *status.Ingress[0].IPMode)
}

func TestNodeOf(t *testing.T) {
	now := metav1.Now()
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{corev1.LabelTopologyZone: "a"}},
		Spec:       corev1.NodeSpec{Unschedulable: true},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}},
	}
	require.Equal(t, loadbalancer.Node{Name: "n", Labels: n.Labels, Zone: "a", Cordoned: true}, nodeOf(n), "Ready moves nothing")
	n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue})
	n.DeletionTimestamp = &now
	require.True(t, nodeOf(n).NetworkUnavailable)
	require.True(t, nodeOf(n).Deleting)
	for value, want := range map[string]bool{"": true, "true": true, "false": false, "0": false, "nonsense": true} {
		n.Labels[corev1.LabelNodeExcludeBalancers] = value
		require.Equal(t, want, nodeOf(n).Excluded, value)
	}
}

// Row L2: several slices merge; nil conditions count as true; what only serves counts
// where nothing of its family is ready.
func TestEndpointsOf(t *testing.T) {
	yes, no, n1, n2 := true, false, "node1", "node2"
	endpoint := func(node *string, ready, serving *bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{NodeName: node, Conditions: discoveryv1.EndpointConditions{Ready: ready, Serving: serving}}
	}
	slice := func(kind discoveryv1.AddressType, e ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{AddressType: kind, Endpoints: e}
	}
	const v4, v6, fqdn = discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN
	on := func(nodes ...string) loadbalancer.Reach { return loadbalancer.Reach{Any: true, Nodes: nodes} }
	ending := func(nodes ...string) loadbalancer.Reach {
		return loadbalancer.Reach{Any: true, Ending: true, Nodes: nodes}
	}
	for name, c := range map[string]struct {
		slices []*discoveryv1.EndpointSlice
		want   loadbalancer.Endpoints
	}{
		"none":                {nil, loadbalancer.Endpoints{}},
		"two slices":          {[]*discoveryv1.EndpointSlice{slice(v4, endpoint(&n2, nil, nil)), slice(v4, endpoint(&n1, &yes, nil))}, loadbalancer.Endpoints{IPv4: on("node1", "node2")}},
		"terminating":         {[]*discoveryv1.EndpointSlice{slice(v4, endpoint(&n1, &no, &yes), endpoint(&n2, &yes, &yes))}, loadbalancer.Endpoints{IPv4: on("node2")}},
		"all terminating":     {[]*discoveryv1.EndpointSlice{slice(v4, endpoint(&n1, &no, &yes), endpoint(&n2, &no, &no))}, loadbalancer.Endpoints{IPv4: ending("node1")}},
		"without a node":      {[]*discoveryv1.EndpointSlice{slice(v4, endpoint(nil, nil, nil))}, loadbalancer.Endpoints{IPv4: on()}},
		"both families":       {[]*discoveryv1.EndpointSlice{slice(v4, endpoint(&n1, nil, nil)), slice(v6, endpoint(&n2, nil, nil))}, loadbalancer.Endpoints{IPv4: on("node1"), IPv6: on("node2")}},
		"each family by self": {[]*discoveryv1.EndpointSlice{slice(v4, endpoint(&n1, nil, nil)), slice(v6, endpoint(&n2, &no, &yes))}, loadbalancer.Endpoints{IPv4: on("node1"), IPv6: ending("node2")}},
		"empty slice":         {[]*discoveryv1.EndpointSlice{slice(v4, endpoint(&n1, nil, nil)), slice(v6)}, loadbalancer.Endpoints{IPv4: on("node1")}},
		"host names":          {[]*discoveryv1.EndpointSlice{slice(fqdn, endpoint(&n1, nil, nil))}, loadbalancer.Endpoints{}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, endpointsOf(c.slices)) })
	}
}
