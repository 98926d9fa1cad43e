//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"baremetal.cloud/ccm/test/e2e/history"
)

// namespaces are those that Services are made in. The second may share addresses with
// the first, the third may not.
var namespaces = []string{"default", "friend", "stranger"}

// operate does one operation.
func (r *randomOperations) operate() {
	r.Helper()
	r.operations++
	if r.random.IntN(15) == 0 {
		r.reload()
		return
	}
	namespace, name := r.key()
	key := namespace + "/" + name
	edit := r.edit()
	fresh := r.fresh(namespace, name)
	services := r.client.CoreV1().Services(namespace)
	switch chance := r.random.IntN(10); {
	case !r.living[key]:
		r.note("create %s", key)
		_, err := services.Create(r.Context(), fresh, metav1.CreateOptions{})
		// One that is being deleted, with nobody there to let it go, is still there.
		if !r.tolerable(err) {
			r.living[key] = true
		}
	case chance < 3:
		r.note("delete %s", key)
		err := services.Delete(r.Context(), name, metav1.DeleteOptions{})
		require.True(r, err == nil || apierrors.IsNotFound(err), "%v", err)
		delete(r.living, key)
	default:
		r.note("edit %s: %s", key, edit.name)
		r.tolerable(retry.RetryOnConflict(retry.DefaultRetry, func() error {
			svc, err := services.Get(r.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			edit.apply(svc)
			_, err = services.Update(r.Context(), svc, metav1.UpdateOptions{})
			return err
		}))
	}
}

// tolerable reports whether the API server itself refused an operation.
func (r *randomOperations) tolerable(err error) (refused bool) {
	r.Helper()
	if err == nil {
		return false
	}
	require.True(r, apierrors.IsInvalid(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err), "%v", err)
	r.note("refused by the API server: %v", err)
	r.refused++
	return true
}

// edit is a change of a Service's spec or annotations.
type edit struct {
	name  string
	apply func(*corev1.Service)
}

// edit draws one.
func (r *randomOperations) edit() edit {
	switch r.random.IntN(7) {
	case 0:
		return r.annotation("baremetal.cloud/pool", "", "", "a", "b", "c", "none")
	case 1:
		return r.annotation("baremetal.cloud/addresses", "", "", r.anAddress(true), r.anAddress(true), r.anAddress(false), r.anAddress(true)+","+r.anAddress(false), "garbage")
	case 2:
		return r.annotation("baremetal.cloud/sharing-key", "", "k", "l")
	case 3:
		ports := r.ports()
		return edit{fmt.Sprintf("ports %v", numbers(ports)), func(svc *corev1.Service) { svc.Spec.Ports = ports }}
	case 4:
		policy := []corev1.IPFamilyPolicy{corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack}[r.random.IntN(3)]
		return edit{"ipFamilyPolicy " + string(policy), func(svc *corev1.Service) { svc.Spec.IPFamilyPolicy = &policy }}
	case 5:
		policy := []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal}[r.random.IntN(2)]
		return edit{"externalTrafficPolicy " + string(policy), func(svc *corev1.Service) {
			if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
				svc.Spec.ExternalTrafficPolicy = policy
			}
		}}
	}
	return edit{"type", func(svc *corev1.Service) {
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
			svc.Spec.Type, svc.Spec.ExternalTrafficPolicy, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, "", nil
		} else {
			svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		}
	}}
}

// annotation draws a value; "" removes the annotation.
func (r *randomOperations) annotation(key string, values ...string) edit {
	value := values[r.random.IntN(len(values))]
	return edit{fmt.Sprintf("%s=%q", key, value), func(svc *corev1.Service) {
		if svc.Annotations == nil {
			svc.Annotations = map[string]string{}
		}
		svc.Annotations[key] = value
		if value == "" {
			delete(svc.Annotations, key)
		}
	}}
}

// fresh draws a new Service.
func (r *randomOperations) fresh(namespace, name string) *corev1.Service {
	svc := service(namespace, name)
	svc.Spec.Selector = map[string]string{"app": []string{"nobody", "web", "web"}[r.random.IntN(3)]}
	svc.Spec.Ports = r.ports()
	families := [][]corev1.IPFamily{{corev1.IPv4Protocol, corev1.IPv6Protocol}, {corev1.IPv6Protocol, corev1.IPv4Protocol}}[r.random.IntN(2)]
	policy := []corev1.IPFamilyPolicy{corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack}[r.random.IntN(4)]
	if policy == corev1.IPFamilyPolicySingleStack {
		families = families[:1]
	}
	svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = families, &policy
	for range r.random.IntN(3) {
		if e := r.edit(); strings.HasPrefix(e.name, "baremetal.cloud/") {
			e.apply(svc)
		}
	}
	if r.random.IntN(6) == 0 {
		class := []string{"baremetal.cloud/lb", "somebody.example/else"}[r.random.IntN(2)]
		svc.Spec.LoadBalancerClass = &class
	}
	return svc
}

func (r *randomOperations) ports() []corev1.ServicePort {
	var out []corev1.ServicePort
	for _, i := range r.random.Perm(4)[:1+r.random.IntN(2)] {
		protocol := []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}[i%2]
		out = append(out, corev1.ServicePort{Name: fmt.Sprint("p", i), Port: int32(80 + i/2), Protocol: protocol})
	}
	return out
}

func numbers(ports []corev1.ServicePort) []string {
	var out []string
	for _, p := range ports {
		out = append(out, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
	}
	return out
}

// anAddress draws an address that pools may contain.
func (r *randomOperations) anAddress(v4 bool) string {
	first := r.c.PoolV6().Addr()
	if v4 {
		first = r.c.PoolV4().Addr()
	}
	return plus(first, r.random.IntN(24)).String()
}

func plus(a netip.Addr, n int) netip.Addr {
	for range n {
		a = a.Next()
	}
	return a
}

// reload draws a cloud-config and writes it into the ConfigMap.
func (r *randomOperations) reload() {
	r.Helper()
	r.config = cloudConfig(r.random, r.c.PoolV4().Addr(), r.c.PoolV6().Addr())
	r.note("write the cloud-config:\n%s", history.Indent(r.config))
	r.configure(r.config)
}

// cloudConfig draws a cloud-config of small pools, so that some are always full: a and b
// for everybody, and perhaps c, for namespace friend.
func cloudConfig(random *rand.Rand, v4, v6 netip.Addr) string {
	var b strings.Builder
	on := func(one, of int) bool { return random.IntN(of) < one }
	shrink := "Refuse"
	if on(1, 4) {
		shrink = "Reassign"
	}
	fmt.Fprintf(&b, "apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\nloadBalancerClasses: [baremetal.cloud/lb]\nfailover: %s\nonShrink: %s\npools:\n", slowFailover, shrink)
	pool := func(name string, at, size4, size6 int, more string) {
		fmt.Fprintf(&b, "- {name: %s, addresses: [%s-%s, \"%s-%s\"], priority: %d, reuseAfter: %s, autoAssign: %t, disabled: %t, l2: [{interface: eth0}]%s}\n",
			name, plus(v4, at), plus(v4, at+size4-1), plus(v6, at), plus(v6, at+size6-1),
			random.IntN(2), []string{"0s", "1s", "10m"}[random.IntN(3)], !on(1, 5), on(1, 8), more)
	}
	pool("a", 0, 3+random.IntN(5), 2+random.IntN(5), ", sharedNamespaces: [default, friend], avoidBuggyIPs: true")
	pool("b", 8, 2+random.IntN(4), 1+random.IntN(6), "")
	if on(1, 2) {
		pool("c", 16, 1+random.IntN(3), 1+random.IntN(3), ", namespaces: [friend]")
	}
	return b.String()
}
