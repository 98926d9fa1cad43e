package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"baremetal.cloud/ccm/pkg/cloud"
)

// How large the fleet is.
const (
	fleetNodes    = 1000
	fleetServices = 10_000
	// fleetPods is how many endpoints every second Service has; the others have one.
	fleetPods = 3
)

// fleetPool holds the Services' addresses, and is part of the nodes' segment.
const fleetPool = "10.64.0.0/16"

// fleetConfig is the cloud-config.
const fleetConfig = `apiVersion: baremetal.cloud/v1alpha1
kind: CloudConfig
pools:
- name: default
  addresses: [` + fleetPool + `]
`

// Names of what the announcers' side has in a cluster.
const (
	fleetAccount  = "baremetal-announcer"
	fleetAudience = "baremetal.cloud/announcer"
	fleetSecret   = "baremetal-ccm-tls"
	fleetCA       = "baremetal-ccm-ca"
	fleetServer   = "baremetal-ccm"
)

func fleetNode(i int) string    { return fmt.Sprintf("node-%04d", i) }
func fleetService(i int) string { return fmt.Sprintf("service-%05d", i) }
func fleetPod(i int) string     { return fmt.Sprintf("announcer-%04d", i) }
func fleetPodUID(i int) string  { return fmt.Sprintf("a0000000-0000-4000-8000-%012d", i) }

// fleetSource is the loopback address that the announcer of a node dials from.
func fleetSource(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)})
}

// fleetAddress is the address that a Service has.
func fleetAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)})
}

// fleetEndpoints are the nodes that the Pods of a Service are on at first.
func fleetEndpoints(i int) []string {
	nodes := []string{fleetNode(i % fleetNodes)}
	for pod := 1; i%2 == 1 && pod < fleetPods; pod++ {
		nodes = append(nodes, fleetNode((i+pod)%fleetNodes))
	}
	return nodes
}

// fleetToken is a token of the form that the API server gives to the announcer of a node.
// Nobody checks its signature but fleetReview.
func fleetToken(i int) (string, error) {
	payload, err := json.Marshal(map[string]any{
		"sub": "system:serviceaccount:" + system + ":" + fleetAccount,
		"aud": []string{fleetAudience},
		"exp": time.Now().Add(24 * time.Hour).Unix(),
		"kubernetes.io": map[string]any{
			"namespace": system, "node": map[string]any{"name": fleetNode(i)}, "pod": map[string]any{"name": fleetPod(i), "uid": fleetPodUID(i)},
		},
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"ES256"}`)) + "." + encode(payload) + "." + encode(fmt.Appendf(nil, "%064d", i)), nil
}

// fleetReview answers as the API server does when it is asked whose token that is.
func fleetReview(token string) (authenticationv1.TokenReviewStatus, error) {
	signature, err := base64.RawURLEncoding.DecodeString(token[strings.LastIndexByte(token, '.')+1:])
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	i, err := strconv.Atoi(string(signature))
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	return authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: []string{fleetAudience},
		User: authenticationv1.UserInfo{
			Username: "system:serviceaccount:" + system + ":" + fleetAccount,
			Extra: map[string]authenticationv1.ExtraValue{
				"authentication.kubernetes.io/pod-name":  {fleetPod(i)},
				"authentication.kubernetes.io/pod-uid":   {fleetPodUID(i)},
				"authentication.kubernetes.io/node-name": {fleetNode(i)},
			},
		},
	}, nil
}

// fleetObjects are what the API server holds.
func fleetObjects() []runtime.Object {
	objects := []runtime.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: "f0000000-0000-4000-8000-000000000000"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceDefault}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: fleetSecret}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: fleetCA}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: cloud.LastGoodConfigMapName}},
	}
	for i := range fleetNodes {
		objects = append(objects, fleetNodeObject(i), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: fleetPod(i), UID: types.UID(fleetPodUID(i))},
			Spec:       corev1.PodSpec{NodeName: fleetNode(i)},
		})
	}
	for i := range fleetServices {
		objects = append(objects, fleetServiceObject(i), fleetSlice(i, fleetEndpoints(i)))
	}
	return objects
}

func fleetNodeObject(i int) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: fleetNode(i), Labels: map[string]string{
			corev1.LabelHostname: fleetNode(i), corev1.LabelTopologyZone: fmt.Sprintf("rack-%02d", i%40),
		}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fleetSource(i).String()}}},
	}
}

// fleetServiceObject is a Service that an earlier leader gave its address.
func fleetServiceObject(i int) *corev1.Service {
	mode := corev1.LoadBalancerIPModeVIP
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: fleetService(i), UID: types.UID(fmt.Sprintf("b0000000-0000-4000-8000-%012d", i)),
			Labels: map[string]string{"app": fleetService(i)}, Finalizers: []string{"service.kubernetes.io/load-balancer-cleanup"},
		},
		Spec: corev1.ServiceSpec{
			Type:                  corev1.ServiceTypeLoadBalancer,
			ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
			HealthCheckNodePort:   int32(30_000 + i%2000),
			Selector:              map[string]string{"app": fleetService(i)},
			Ports:                 []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
			IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol},
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
			Ingress: []corev1.LoadBalancerIngress{{IP: fleetAddress(i).String(), IPMode: &mode}},
		}},
	}
}

// fleetSlice says that a Service has a Pod on each of the nodes.
func fleetSlice(i int, nodes []string) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: fleetService(i) + "-slice",
			Labels: map[string]string{discoveryv1.LabelServiceName: fleetService(i)},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for n, node := range nodes {
		ready := true
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.128.%d.%d", i%256, n+1)},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready}, NodeName: &node,
		})
	}
	return slice
}
