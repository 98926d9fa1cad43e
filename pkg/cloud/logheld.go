package cloud

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
)

// logHeld writes one line for the addresses that a Service was given since it was last looked
// at, and one for those that it no longer holds. What its status shows at the first look it
// held before.
func (p *Provider) logHeld(svc *corev1.Service, status loadbalancer.Status) {
	given, gone := p.dedup.holds(svc, status.Held)
	key := svc.Namespace + "/" + svc.Name
	if len(given) > 0 {
		p.options.Logger.Info("addresses allocated", "service", key, "addresses", addressList(given), "pools", poolList(given))
	}
	p.logReleased(key, gone)
}

// logReleased writes one line for what a Service held and holds no longer.
func (p *Provider) logReleased(key string, gone []ipam.Assignment) {
	if len(gone) > 0 {
		p.options.Logger.Info("addresses released", "service", key, "addresses", addressList(gone))
	}
}

// holds notes what svc holds and returns what is new of it and what is gone.
func (s *eventDedup) holds(svc *corev1.Service, held []ipam.Assignment) (given, gone []ipam.Assignment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.eventsOf(svc)
	before := said.held
	if before == nil {
		for _, a := range publishedAddresses(svc) {
			before = append(before, ipam.Assignment{Address: a})
		}
	}
	said.held = slices.Clone(held)
	if said.held == nil {
		said.held = []ipam.Assignment{}
	}
	return minus(held, before), minus(before, held)
}

// minus returns those of x whose addresses are not in y.
func minus(x, y []ipam.Assignment) (out []ipam.Assignment) {
	for _, a := range x {
		if !slices.ContainsFunc(y, func(b ipam.Assignment) bool { return b.Address == a.Address }) {
			out = append(out, a)
		}
	}
	return out
}

func addressList(assignments []ipam.Assignment) string {
	addresses := make([]netip.Addr, 0, len(assignments))
	for _, a := range assignments {
		addresses = append(addresses, a.Address)
	}
	return joinAddresses(addresses)
}

func joinAddresses(addresses []netip.Addr) string {
	var out []string
	for _, a := range addresses {
		out = append(out, a.String())
	}
	return strings.Join(out, ",")
}

func poolList(assignments []ipam.Assignment) string {
	var out []string
	for _, a := range assignments {
		if !slices.Contains(out, a.Pool) {
			out = append(out, a.Pool)
		}
	}
	return strings.Join(out, ",")
}
