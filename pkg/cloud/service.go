package cloud

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// classes are the loadBalancerClasses that are served.
type classes struct {
	// none serves the Services that name no class.
	none bool
	// named serves those that name one of these.
	named []string
}

// wantsAddress reports whether svc asks for a load balancer and is of a class that is served.
func wantsAddress(svc *corev1.Service, c classes) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && classServed(svc, c)
}

// classServed reports whether svc's loadBalancerClass is ours to serve.
func classServed(svc *corev1.Service, c classes) bool {
	return svc.Spec.LoadBalancerClass == nil && c.none || namesClass(svc, c)
}

// namesClass reports whether svc names a class of ours, which the stock controller ignores.
func namesClass(svc *corev1.Service, c classes) bool {
	return svc.Spec.LoadBalancerClass != nil && slices.Contains(c.named, *svc.Spec.LoadBalancerClass)
}

// serviceOf translates a Service. svc is not modified. What cannot be understood in it
// makes the request unreadable, which refuses it and releases nothing.
func serviceOf(svc *corev1.Service, namespaceLabels map[string]string) loadbalancer.Service {
	req := ipam.Request{
		Holder:          holderOf(svc),
		Labels:          svc.Labels,
		NamespaceLabels: namespaceLabels,
		Families:        familiesOf(svc),
		Pool:            strings.TrimSpace(svc.Annotations[AnnotationPool]),
		Sharing: ipam.Sharing{
			Key:        strings.TrimSpace(svc.Annotations[AnnotationSharingKey]),
			ForeignKey: foreignKey(svc),
			Ports:      portsOf(svc),
			Local:      svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
			Selector:   selectorOf(svc),
		},
	}
	if p := svc.Spec.IPFamilyPolicy; p != nil && *p == corev1.IPFamilyPolicyRequireDualStack {
		req.RequireAll = true
	}
	var err error
	if req.Addresses, err = requestedAddresses(svc); err != nil {
		req.Unreadable = err.Error()
	}
	return loadbalancer.Service{
		Request: req, Class: ptr.Deref(svc.Spec.LoadBalancerClass, ""), Published: publishedAddresses(svc),
		HealthPort: uint16(svc.Spec.HealthCheckNodePort), //nolint:gosec // a port
	}
}

func holderOf(svc *corev1.Service) ipam.Holder {
	return ipam.Holder{
		UID:       string(svc.UID),
		Namespace: svc.Namespace,
		Name:      svc.Name,
		Created:   svc.CreationTimestamp.Time,
	}
}

func familiesOf(svc *corev1.Service) []ipam.Family {
	var out []ipam.Family
	for _, f := range svc.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			out = append(out, ipam.IPv6)
		} else {
			out = append(out, ipam.IPv4)
		}
	}
	return out
}

func portsOf(svc *corev1.Service) []ipam.Port {
	out := make([]ipam.Port, 0, len(svc.Spec.Ports))
	for _, p := range svc.Spec.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		out = append(out, ipam.Port{Protocol: string(protocol), Number: uint16(p.Port)})
	}
	return out
}

// selectorOf returns a text that is equal for Services with the same Pods. A Service
// without a selector has endpoints of its own that no other Service shares.
func selectorOf(svc *corev1.Service) string {
	if len(svc.Spec.Selector) == 0 {
		return "endpoints of " + svc.Namespace + "/" + svc.Name
	}
	return svc.Namespace + "/" + labels.Set(svc.Spec.Selector).String()
}

// maxRequested bounds the addresses that a Service asks for; more than one of each family is
// refused anyhow.
const maxRequested = 16

// requestedAddresses reads the addresses annotation and spec.loadBalancerIP, which must
// agree where both are set.
func requestedAddresses(svc *corev1.Service) ([]netip.Addr, error) {
	var out []netip.Addr
	if text := strings.TrimSpace(svc.Annotations[AnnotationAddresses]); text != "" {
		for part := range strings.SplitSeq(text, ",") {
			address, err := parseAddress(part)
			if err != nil {
				return nil, fmt.Errorf("annotation %s: %w", AnnotationAddresses, err)
			}
			if out = append(out, address); len(out) > maxRequested {
				return nil, fmt.Errorf("annotation %s asks for more than %d addresses; ask for one of each family", AnnotationAddresses, maxRequested)
			}
		}
	}
	if svc.Spec.LoadBalancerIP == "" {
		return out, nil
	}
	address, err := parseAddress(svc.Spec.LoadBalancerIP)
	switch {
	case err != nil:
		return nil, fmt.Errorf("spec.loadBalancerIP: %w", err)
	case len(out) > 0 && !slices.Contains(out, address):
		return nil, fmt.Errorf("spec.loadBalancerIP asks for %s, annotation %s for %s; make them agree or remove one", address, AnnotationAddresses, reason.Quote(svc.Annotations[AnnotationAddresses]))
	case len(out) > 0:
		return out, nil
	}
	return []netip.Addr{address}, nil
}

// maxForeignKey bounds what is quoted of another controller's annotation.
const maxForeignKey = 128

// foreignKey returns the sharing key that MetalLB reads, under its present name or the one
// before.
func foreignKey(svc *corev1.Service) string {
	key := cmp.Or(svc.Annotations["metallb.io/allow-shared-ip"], svc.Annotations["metallb.universe.tf/allow-shared-ip"])
	if len(key) > maxForeignKey {
		return ""
	}
	return strings.TrimSpace(key)
}

func parseAddress(text string) (netip.Addr, error) {
	text = strings.TrimSpace(text)
	address, err := netip.ParseAddr(text)
	if err != nil || address.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", reason.Quote(text))
	}
	return address.Unmap(), nil
}

// publishedAddresses returns the addresses in svc's status that can be read.
func publishedAddresses(svc *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		if address, err := parseAddress(ingress.IP); err == nil {
			out = append(out, address)
		}
	}
	return out
}

// statusOf is the status that publishes addresses. ipMode VIP makes kube-proxy answer
// on every node (KEP-1860); it is set explicitly because the API server would default
// it and the stock controller would then see a difference for ever. On the addresses
// yielding another Service is served in place of this one: mode Proxy makes kube-proxy ignore
// this one. Otherwise kube-proxy would serve now the one, now the other.
func statusOf(addresses, yielding []netip.Addr) *corev1.LoadBalancerStatus {
	out := &corev1.LoadBalancerStatus{}
	for _, address := range addresses {
		mode := corev1.LoadBalancerIPModeVIP
		if slices.Contains(yielding, address) {
			mode = corev1.LoadBalancerIPModeProxy
		}
		out.Ingress = append(out.Ingress, corev1.LoadBalancerIngress{IP: address.String(), IPMode: &mode})
	}
	return out
}
