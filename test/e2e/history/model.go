package history

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/ipam"
)

// model is the allocator that one would write in an afternoon: it says who could have an
// address, by looking at everybody each time. Which address it would be is not its
// business: that depends on the order in which the leader hears of things.
type model struct {
	config *Config
	// services are those that are to have addresses.
	services []*Service
}

// expectation is what a Service is to have where nothing changes any more.
type expectation struct {
	// able are the families of which it has no address and could have one.
	able []ipam.Family
	// lacking are those of which it has none and cannot have one.
	lacking []ipam.Family
	// refused says that it cannot have all of what it asks for, so that what it has stays
	// and nothing comes to it.
	refused bool
}

// expect says what becomes of s.
func (m *model) expect(s *Service) expectation {
	var e expectation
	if invalid(s) {
		return expectation{refused: true}
	}
	has := 0
	for _, f := range s.Families {
		held, want := s.address(f), s.asked(f)
		switch {
		case want.IsValid() && want == held, !want.IsValid() && held.IsValid() && m.suits(s, held):
			has++
		case m.could(s, f):
			e.able = append(e.able, f)
		case want.IsValid() || held.IsValid():
			e.refused = true
		default:
			e.lacking = append(e.lacking, f)
		}
	}
	if s.Both && len(e.lacking) > 0 || has+len(e.able) == 0 {
		e.refused = true
	}
	if e.refused {
		e.able = nil
	}
	return e
}

// invalid reports whether what s asks for contradicts itself (IP21).
func invalid(s *Service) bool {
	if s.Garbage != "" {
		return true
	}
	count := map[ipam.Family]int{}
	for _, a := range s.Asked {
		count[ipam.FamilyOf(a)]++
		if count[ipam.FamilyOf(a)] > 1 || !slices.Contains(s.Families, ipam.FamilyOf(a)) {
			return true
		}
	}
	return s.Both && len(count) > 0 && len(count) < len(s.Families)
}

// suits reports whether s may keep an address that it did not ask for.
func (m *model) suits(s *Service, held netip.Addr) bool {
	if m.config.poolOf(held) == nil {
		return m.config.OnShrink != "Reassign" && s.Pool == ""
	}
	return s.Pool == "" || m.config.in(held, s.Pool)
}

// could reports whether s could take an address of family f.
func (m *model) could(s *Service, f ipam.Family) bool {
	if want := s.asked(f); want.IsValid() {
		return m.mayTake(s, want)
	}
	if mates := m.mates(s, f); len(mates) > 0 {
		// Naming a key joins the address that its holders have, and no other.
		return slices.ContainsFunc(mates, func(a netip.Addr) bool { return m.mayTake(s, a) })
	}
	for _, p := range m.config.Pools {
		if (s.Pool == "" && p.AutoAssign || s.Pool == p.Name) && m.admits(&p.Pool, s) && m.free(&p.Pool, f) {
			return true
		}
	}
	return false
}

// mates are the addresses that others hold who name the same sharing key.
func (m *model) mates(s *Service, f ipam.Family) []netip.Addr {
	var out []netip.Addr
	for _, other := range m.services {
		a := other.address(f)
		if other.UID == s.UID || s.Key == "" || other.Key != s.Key || !a.IsValid() {
			continue
		}
		p := m.config.poolOf(a)
		if p != nil && (s.Pool == "" || s.Pool == p.Name) && mayMeet(p, s.Namespace, other.Namespace) {
			out = append(out, a)
		}
	}
	return out
}

// mayTake reports whether s may take that very address.
func (m *model) mayTake(s *Service, a netip.Addr) bool {
	p := m.config.poolOf(a)
	if p == nil || s.Pool != "" && s.Pool != p.Name || !m.admits(p, s) || avoided(p, a) {
		return false
	}
	for _, r := range m.config.Reservations {
		if slices.Contains(r.Addresses, a) && (r.Namespace != s.Namespace || r.Name != s.Name) {
			return false
		}
	}
	return !slices.ContainsFunc(m.services, func(other *Service) bool {
		return other.UID != s.UID && slices.Contains(other.Addresses, a) && !mayShare(a, s, other, m.config)
	})
}

func (m *model) admits(p *ipam.Pool, s *Service) bool {
	return !p.Disabled &&
		(len(p.Namespaces) == 0 || slices.Contains(p.Namespaces, s.Namespace)) &&
		(p.ServiceSelector == nil || p.ServiceSelector.Matches(s.Labels))
}

// free reports whether p has an address of family f that nobody holds.
func (m *model) free(p *ipam.Pool, f ipam.Family) bool {
	held := map[netip.Addr]bool{}
	for _, s := range m.services {
		for _, a := range s.Addresses {
			held[a] = true
		}
	}
	for _, r := range m.config.Reservations {
		for _, a := range r.Addresses {
			held[a] = true
		}
	}
	for _, r := range p.Ranges {
		for a := r.First; ipam.FamilyOf(a) == f && r.Contains(a); a = a.Next() {
			if !held[a] && !avoided(p, a) {
				return true
			}
		}
	}
	return false
}

func avoided(p *ipam.Pool, a netip.Addr) bool {
	return p.AvoidBuggyIPs && a.Is4() && (a.As4()[3] == 0 || a.As4()[3] == 255)
}
