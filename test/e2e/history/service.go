package history

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"

	"baremetal.cloud/ccm/pkg/ipam"
)

// Service is one version of a Service. It is read from the object here and not by the
// code under test, which may misread it.
type Service struct {
	Namespace, Name, UID string
	Created              time.Time
	Labels               map[string]string
	// Balanced says that the type is LoadBalancer; Class is "" for none.
	Balanced bool
	Class    string
	Deleting bool
	Families []ipam.Family
	// Both is RequireDualStack.
	Both bool
	// Pool, Key and Asked are what the annotations and loadBalancerIP ask for.
	Pool, Key string
	Asked     []netip.Addr
	// Garbage says why what is asked for cannot be understood, or is "".
	Garbage  string
	Ports    []string
	Local    bool
	Selector string
	// Addresses are those in the status, in its order; Strange is what is none.
	Addresses []netip.Addr
	Strange   []string
	// Allocated and Announced are "reason: message" of the conditions, with a "!" before
	// it where the condition is false, or "".
	Allocated, Announced string
}

// Key in the form "namespace/name".
func (s *Service) String() string { return s.Namespace + "/" + s.Name }

// asked returns the address of family f that is asked for, or the zero Addr.
func (s *Service) asked(f ipam.Family) netip.Addr { return of(f, s.Asked) }

// address returns the address of family f in the status, or the zero Addr.
func (s *Service) address(f ipam.Family) netip.Addr { return of(f, s.Addresses) }

func of(f ipam.Family, addresses []netip.Addr) netip.Addr {
	i := slices.IndexFunc(addresses, func(a netip.Addr) bool { return ipam.FamilyOf(a) == f })
	if i < 0 {
		return netip.Addr{}
	}
	return addresses[i]
}

// NewService reads svc.
func NewService(svc *corev1.Service) *Service {
	s := &Service{
		Namespace: svc.Namespace, Name: svc.Name, UID: string(svc.UID), Created: svc.CreationTimestamp.Time, Labels: svc.Labels,
		Balanced: svc.Spec.Type == corev1.ServiceTypeLoadBalancer,
		Deleting: svc.DeletionTimestamp != nil,
		Both:     svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack,
		Pool:     strings.TrimSpace(svc.Annotations["baremetal.cloud/pool"]),
		Key:      strings.TrimSpace(svc.Annotations["baremetal.cloud/sharing-key"]),
		Local:    svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		Selector: labels.Set(svc.Spec.Selector).String(),
	}
	if svc.Spec.LoadBalancerClass != nil {
		s.Class = *svc.Spec.LoadBalancerClass
	}
	for _, f := range svc.Spec.IPFamilies {
		s.Families = append(s.Families, map[corev1.IPFamily]ipam.Family{corev1.IPv4Protocol: ipam.IPv4, corev1.IPv6Protocol: ipam.IPv6}[f])
	}
	for _, p := range svc.Spec.Ports {
		s.Ports = append(s.Ports, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
	}
	for _, i := range svc.Status.LoadBalancer.Ingress {
		if address, err := netip.ParseAddr(i.IP); err == nil {
			s.Addresses = append(s.Addresses, address)
		} else {
			s.Strange = append(s.Strange, i.IP+i.Hostname)
		}
	}
	s.Asked, s.Garbage = asked(svc)
	s.Allocated = sentence(svc, "baremetal.cloud/Allocated")
	s.Announced = sentence(svc, "baremetal.cloud/Announced")
	return s
}

// asked reads the addresses that are asked for.
func asked(svc *corev1.Service) (out []netip.Addr, garbage string) {
	if text, ok := svc.Annotations["baremetal.cloud/addresses"]; ok {
		for part := range strings.SplitSeq(text, ",") {
			address, err := netip.ParseAddr(strings.TrimSpace(part))
			if err != nil {
				return nil, err.Error()
			}
			out = append(out, address)
		}
	}
	if svc.Spec.LoadBalancerIP == "" {
		return out, ""
	}
	address, err := netip.ParseAddr(svc.Spec.LoadBalancerIP)
	switch {
	case err != nil:
		return nil, err.Error()
	case len(out) == 0:
		return []netip.Addr{address}, ""
	case !slices.Contains(out, address):
		return nil, "loadBalancerIP and the annotation disagree"
	}
	return out, ""
}

func sentence(svc *corev1.Service, condition string) string {
	c := meta.FindStatusCondition(svc.Status.Conditions, condition)
	if c == nil {
		return ""
	}
	text := c.Reason + ": " + c.Message
	if c.Status != "True" {
		text = "!" + text
	}
	return text
}
