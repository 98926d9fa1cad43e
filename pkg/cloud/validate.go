package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/ipam"
)

// Doubts returns what in a cluster speaks against config, sorted: pools with addresses of its
// nodes, Pods or Services, and Services that hold an address that config leaves out.
func Doubts(ctx context.Context, client kubernetes.Interface, cfg *config.Config) ([]string, error) {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Nodes: %w", err)
	}
	services, err := client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	// The ranges of Services are objects from Kubernetes 1.33 on.
	ranges, err := client.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		ranges, err = &networkingv1.ServiceCIDRList{}, nil
	}
	if err != nil {
		return nil, errors.Join(errors.New("list ServiceCIDRs"), err)
	}
	around := clusterNetworks{nodes: pointers(nodes.Items), services: pointers(services.Items)}
	found := lintPools(cfg.Pools, around)
	for _, r := range ranges.Items {
		found = append(found, inServiceRange(cfg.Pools, r.Spec.CIDRs)...)
	}
	for _, svc := range around.services {
		found = append(found, strandedBy(cfg, svc)...)
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

func pointers[T any](items []T) []*T {
	out := make([]*T, 0, len(items))
	for i := range items {
		out = append(out, &items[i])
	}
	return out
}

func inServiceRange(pools []config.Pool, cidrs []string) []string {
	var out []string
	for _, p := range pools {
		for _, r := range p.Ranges {
			for _, cidr := range cidrs {
				if prefix, err := netip.ParsePrefix(cidr); err == nil && overlapsPrefix(r, prefix) {
					out = append(out, fmt.Sprintf("pool %q overlaps %s, the range of cluster IPs; take it out of the pool", p.Name, cidr))
				}
			}
		}
	}
	return out
}

// strandedBy returns what svc, if it is served by us, would lose under config.
func strandedBy(cfg *config.Config, svc *corev1.Service) []string {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || !isMarked(svc) || len(publishedAddresses(svc)) == 0 {
		return nil
	}
	then := "the running CCM refuses this cloud-config while it does (onShrink: Refuse)"
	if cfg.OnShrink == config.ShrinkReassign {
		then = "it loses the address (onShrink: Reassign)"
	}
	key := svc.Namespace + "/" + svc.Name
	if !wantsAddress(svc, classes{none: cfg.ServicesWithoutClass, named: cfg.LoadBalancerClasses}) {
		class := "without a class"
		if svc.Spec.LoadBalancerClass != nil {
			class = "of class " + *svc.Spec.LoadBalancerClass
		}
		return []string{fmt.Sprintf("Service %s %s holds an address and would not be served; %s", key, class, then)}
	}
	var out []string
	for _, address := range publishedAddresses(svc) {
		if !slices.ContainsFunc(cfg.Pools, func(p config.Pool) bool {
			return slices.ContainsFunc(p.Ranges, func(r ipam.Range) bool { return r.Contains(address) })
		}) {
			out = append(out, fmt.Sprintf("Service %s holds %s, which would be in no pool; %s", key, address, then))
		}
	}
	return out
}
