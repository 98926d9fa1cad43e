//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// What only a real API server, kube-proxy and stock service controller can show of the
// rules about addresses. The cases run on the testbeds of TestStatusIsTheRecord and
// TestCloudConfigTrouble.

// told waits for an Event of ours on a Service.
func (l *lab) told(name, reason, message string) {
	l.Helper()
	l.toldOf("default", name, reason, message)
}

// toldOf waits for an Event of ours on an object in that namespace.
func (l *lab) toldOf(namespace, name, reason, message string) {
	l.Helper()
	l.eventually(func(t *assert.CollectT) {
		events, err := l.client.CoreV1().Events(namespace).List(l.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + name})
		require.NoError(t, err)
		var all []string
		for _, e := range events.Items {
			if e.Source.Component == "baremetal-ccm" {
				all = append(all, e.Reason+": "+e.Message)
			}
		}
		for _, text := range all {
			if strings.HasPrefix(text, reason+": ") && strings.Contains(text, message) {
				return
			}
		}
		require.Fail(t, "not told", "%s: %s\nin\n%s", reason, message, strings.Join(all, "\n"))
	}, "Events of %s/%s", namespace, name)
}

// keyed makes a Service of the web Pod on one node that shares its address.
func keyed(key, node string, port int32) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations = map[string]string{"baremetal.cloud/sharing-key": key}
		svc.Spec.Selector = map[string]string{"app": "web", "node": node}
		svc.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: port, TargetPort: intstr.FromInt32(8080)}}
	}
}

// servedBy waits until a port of the address is served by the Pod of that node.
func (l *lab) servedBy(address netip.Addr, port int, node string) {
	l.Helper()
	l.eventually(func(t *assert.CollectT) {
		body, err := l.c.Curl(l.Context(), fmt.Sprintf("http://%s/", net.JoinHostPort(address.String(), fmt.Sprint(port))))
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(body, "web-"+node+"-"), "answered by %q", body)
	}, "port %d of %s", port, address)
}

// sharing shows rows IP6 and IP7: who may share, and what an edit does that makes a clash.
func (w *witness) sharing() {
	w.Helper()
	w.create("older", keyed("k", "node1", 80))
	address := w.address("older")
	time.Sleep(1100 * time.Millisecond) // ages are counted in seconds
	asking := func(change func(*corev1.Service)) func(*corev1.Service) {
		return func(svc *corev1.Service) {
			change(svc)
			svc.Annotations["baremetal.cloud/addresses"] = address.String()
		}
	}
	w.create("same-port", asking(keyed("k", "node2", 80)))
	w.told("same-port", "SharingRefused", "is held by Service default/older: both use port 80/TCP")
	w.create("other-key", asking(keyed("l", "node2", 443)))
	w.told("other-key", "SharingRefused", "is held by Service default/older: the sharing keys differ")
	w.create("younger", keyed("k", "node2", 81))
	require.Equal(w, address, w.address("younger"))
	w.servedBy(address, 80, "node1")
	w.servedBy(address, 81, "node2")
	w.delete("same-port")
	w.delete("other-key")

	edit := func(port int32) {
		w.change("younger", func(svc *corev1.Service) { svc.Spec.Ports[0].Port = port })
	}
	edit(80)
	w.told("older", "SharingClash", "clashes with Service default/younger: both use port 80/TCP; this one is older and is served there")
	w.told("younger", "SharingClash", "clashes with Service default/older: both use port 80/TCP; that one is older")
	require.Equal(w, address, w.published("older"))
	require.Equal(w, address, w.published("younger"))
	w.servedBy(address, 80, "node1")
	for i := range 5 { // whatever makes kube-proxy look at its Services again
		w.create(fmt.Sprint("stir-", i), nil)
		w.requested(w.address(fmt.Sprint("stir-", i)))
		body, err := w.c.Curl(w.Context(), fmt.Sprintf("http://%s/", address))
		require.NoError(w, err)
		require.True(w, strings.HasPrefix(body, "web-node1-"), "answered by %q", body)
	}
	for i := range 5 {
		w.delete(fmt.Sprint("stir-", i))
	}
	edit(81)
	w.says("younger", "baremetal.cloud/Allocated", "Allocated")
	w.servedBy(address, 81, "node2")
	w.delete("older")
	require.Equal(w, address, w.published("younger"))
	w.delete("younger")
}

// contradictions shows row IP21: what cannot be had is refused, and what is held stays.
func (w *witness) contradictions() {
	w.Helper()
	w.create("asking", nil)
	address := w.address("asking")
	next := address.Next().String()
	for _, c := range []struct{ annotation, cause string }{
		{"garbage", `"garbage" is not an IP address`},
		{next + "," + address.Next().Next().String(), "two IPv4 addresses are requested"},
		{w.c.PoolV6().Addr().String(), "IPv6 is not among the Service's ipFamilies"},
	} {
		w.annotate("asking", "baremetal.cloud/addresses", c.annotation)
		w.told("asking", "RequestInvalid", c.cause)
	}
	w.change("asking", func(svc *corev1.Service) {
		svc.Annotations["baremetal.cloud/addresses"] = next
		svc.Spec.LoadBalancerIP = address.String()
	})
	w.told("asking", "RequestInvalid", "make them agree or remove one")
	require.Equal(w, address, w.published("asking"))
	w.requested(address)

	w.create("both", func(svc *corev1.Service) {
		policy := corev1.IPFamilyPolicyRequireDualStack
		svc.Spec.IPFamilyPolicy = &policy
		svc.Annotations = map[string]string{"baremetal.cloud/addresses": next}
	})
	w.told("both", "RequestInvalid", "requires both families (RequireDualStack) but requests an address of only one")
	require.False(w, w.published("both").IsValid())
	w.delete("both")
	w.delete("asking")
}

// eachFamily has a dual-stack Service with IPv4 endpoints only: nobody answers for the IPv6
// address, and the condition says so, until there is an IPv6 endpoint.
func (w *witness) eachFamily() {
	w.Helper()
	w.create("dual", func(svc *corev1.Service) {
		policy := corev1.IPFamilyPolicyRequireDualStack
		svc.Spec.IPFamilyPolicy = &policy
		svc.Spec.Selector = nil // its endpoints are written by hand
	})
	w.endpoint(discoveryv1.AddressTypeIPv4)
	addresses := w.addresses("dual", 2)
	w.told("dual", "NoEndpoints", "usable IPv4 endpoints and no IPv6 one, so no node answers for "+addresses[1].String())
	w.requested(addresses[0])
	w.addressOwner(addresses[0])
	require.False(w, w.resolves(addresses[1]), "nobody may answer for %s", addresses[1])

	w.endpoint(discoveryv1.AddressTypeIPv6)
	w.says("dual", "baremetal.cloud/Announced", "Announced")
	w.requested(addresses[1])
	require.True(w, w.resolves(addresses[1]))
	w.delete("dual")
}

// endpoint makes the web Pod on node1 an endpoint of Service dual.
func (w *witness) endpoint(kind discoveryv1.AddressType) {
	w.Helper()
	pods, err := w.client.CoreV1().Pods("default").List(w.Context(), metav1.ListOptions{LabelSelector: "app=web,node=node1"})
	require.NoError(w, err)
	require.Len(w, pods.Items, 1)
	pod, name, port := pods.Items[0], "http", int32(8080)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "dual-" + strings.ToLower(string(kind)),
			Labels: map[string]string{discoveryv1.LabelServiceName: "dual", discoveryv1.LabelManagedBy: "test"},
		},
		AddressType: kind,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for _, ip := range pod.Status.PodIPs {
		if netip.MustParseAddr(ip.IP).Is4() == (kind == discoveryv1.AddressTypeIPv4) {
			slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{ip.IP}, NodeName: &pod.Spec.NodeName}}
		}
	}
	require.Len(w, slice.Endpoints, 1)
	slices := w.client.DiscoveryV1().EndpointSlices("default")
	_, err = slices.Create(w.Context(), slice, metav1.CreateOptions{})
	require.NoError(w, err)
}

// resolves reports whether the client finds out a MAC for an IPv6 address.
func (l *lab) resolves(address netip.Addr) bool {
	l.Helper()
	_, _ = l.c.In(l.Context(), "client", "curl", "--silent", "--max-time", "3", "http://"+net.JoinHostPort(address.String(), "80")+"/")
	out, err := l.c.In(l.Context(), "client", "ip", "-6", "neigh", "show", "to", address.String(), "dev", "eth0")
	require.NoError(l, err, out)
	return strings.Contains(out, "lladdr")
}

// configMoves shows row IP18: a pool that is renamed, grown or split moves nobody; with
// onShrink: Reassign a holder that is left out gets another address, with an Event, and so
// does one with an address outside every pool (row IP19).
func (w *witness) configMoves() {
	w.Helper()
	w.configure(w.pool(0, 9))
	w.used(w.pool(0, 9))
	w.create("web", func(svc *corev1.Service) {
		svc.Annotations = map[string]string{"baremetal.cloud/addresses": plus(w.c.PoolV4().Addr(), 8).String()}
	})
	address := w.address("web")
	owner := w.addressOwner(address)
	w.change("web", func(svc *corev1.Service) { svc.Annotations = nil })
	for pool, text := range map[string]string{
		"renamed": strings.ReplaceAll(w.pool(0, 9), "name: default", "name: renamed"),
		"default": w.pool(0, 90),
		"second":  w.pool(0, 5) + strings.ReplaceAll(poolsOf(w.pool(6, 9)), "name: default", "name: second"),
	} {
		w.configure(text)
		w.used(text)
		w.described("web", address, pool)
		w.unchanged("web", address, owner)
	}

	w.stop("ccm")
	w.create("outside", nil)
	w.writeStatus("outside", "192.0.2.99")
	w.start("ccm")
	w.says("outside", "baremetal.cloud/Allocated", "AddressOutsidePools")
	moved := strings.Replace(w.pool(0, 5), "pools:", "onShrink: Reassign\npools:", 1)
	w.configure(moved)
	w.used(moved)
	w.told("web", "Allocated", "; no longer "+address.String())
	w.told("outside", "Allocated", "; no longer 192.0.2.99")
	w.requested(w.address("web"))
	w.silent(address)
	w.delete("web")
	w.delete("outside")
}

// poolsOf returns the pools of a cloud-config that pool has made.
func poolsOf(text string) string {
	_, pools, _ := strings.Cut(text, "pools:\n")
	return pools
}

// waiting shows row IP12 on the whole program, and that a Service which waits because of its
// labels is served when they change, which the stock service controller does not see.
func (w *witness) waiting() {
	w.Helper()
	w.configure(w.pool(0, 0))
	w.used(w.pool(0, 0))
	w.create("holder", nil)
	address := w.address("holder")
	w.create("waiting", nil)
	w.told("waiting", "PoolExhausted", "")
	version := w.get("waiting").Generation
	w.delete("holder")
	require.Equal(w, address, w.address("waiting"), "one is freed")

	w.create("second", nil)
	w.told("second", "PoolExhausted", "")
	w.configure(w.pool(0, 1))
	require.Equal(w, address.Next(), w.address("second"), "the pool grows")
	require.Equal(w, version, w.get("waiting").Generation, "nobody has touched it")

	gold := w.pool(0, 1) + "- {name: gold, addresses: [" + plus(address, 20).String() + "], serviceSelectors: [{matchLabels: {tier: gold}}], l2: [{interface: eth0}]}\n"
	w.configure(gold)
	w.used(gold)
	w.create("labelled", nil)
	w.told("labelled", "PoolExhausted", "")
	_, err := w.c.Kubectl(w.Context(), "label", "service", "labelled", "tier=gold")
	require.NoError(w, err)
	require.Equal(w, plus(address, 20), w.address("labelled"))
	for _, name := range []string{"waiting", "second", "labelled"} {
		w.delete(name)
	}
}
