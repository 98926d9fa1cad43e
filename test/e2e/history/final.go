package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/ipam"
)

// Services returns the last version of every Service that exists at the end, by name.
func (h History) Services() []*Service {
	last := map[string]*Service{}
	for _, c := range h {
		switch {
		case c.Service == nil:
		case c.Gone:
			delete(last, c.Service.UID)
		default:
			last[c.Service.UID] = c.Service
		}
	}
	var out []*Service
	for _, s := range last {
		out = append(out, s)
	}
	slices.SortFunc(out, func(x, y *Service) int { return cmp.Compare(x.String(), y.String()) })
	return out
}

// Config returns the cloud-config in use at the end, or nil.
func (h History) Config() *Config {
	var last *Config
	for _, c := range h {
		if c.Config != nil {
			last = c.Config
		}
	}
	return last
}

// Revision returns the last revision that was heard of.
func (h History) Revision() uint64 {
	var last uint64
	for _, c := range h {
		last = max(last, c.Revision)
	}
	return last
}

// Unfinished says what is not as it is to be once nothing changes any more: who waits for
// an address and could have one, who has one that it is not to have, and whose condition
// says something else than what is.
func (h History) Unfinished() []Complaint {
	config := h.Config()
	if config == nil {
		return []Complaint{{What: "no cloud-config is in use"}}
	}
	m := &model{config: config}
	for _, s := range h.Services() {
		if config.serves(s) {
			m.services = append(m.services, s)
		}
	}
	var out []Complaint
	complain := func(s *Service, format string, args ...any) {
		out = append(out, Complaint{h.Revision(), s.String(), fmt.Sprintf(format, args...)})
	}
	for _, s := range h.Services() {
		if s.Deleting {
			complain(s, "is not gone")
		}
		if !config.serves(s) && len(s.Addresses) > 0 {
			complain(s, "has %v and is no load balancer of ours", s.Addresses)
		}
	}
	for _, s := range m.services {
		for _, what := range m.unfinished(s) {
			complain(s, "%s", what)
		}
	}
	return out
}

// unfinished says what of s is not as it is to be.
func (m *model) unfinished(s *Service) []string {
	var out []string
	e := m.expect(s)
	if len(e.able) > 0 {
		out = append(out, fmt.Sprintf("has %v and could have the %v that it asks for", s.Addresses, e.able))
	}
	if len(s.Strange) > 0 {
		out = append(out, fmt.Sprintf("has %q in its status", s.Strange))
	}
	if !e.refused && !ordered(s) { // a refusal releases nothing, not even a family given up
		out = append(out, fmt.Sprintf("has %v, which is not what ipFamilies %v order", s.Addresses, s.Families))
	}
	allocated := strings.HasPrefix(s.Allocated, "Allocated: ") || strings.HasPrefix(s.Allocated, "SharingClash: ") || strings.HasPrefix(s.Allocated, "AddressOutsidePools: ")
	switch {
	case s.Allocated == "":
		out = append(out, "has no condition Allocated")
	case e.refused && !strings.HasPrefix(s.Allocated, "!"):
		out = append(out, "cannot have what it asks for, but its condition says "+s.Allocated)
	case !e.refused && len(e.lacking) > 0 && !strings.HasPrefix(s.Allocated, "PartiallyAllocated: "):
		out = append(out, "has one family only, but its condition says "+s.Allocated)
	case !e.refused && len(e.lacking) == 0 && len(e.able) == 0 && !allocated:
		out = append(out, "has what it asks for, but its condition says "+s.Allocated)
	}
	return out
}

// ordered reports whether the addresses are at most one of each family, of those that s
// wants, in their order.
func ordered(s *Service) bool {
	at := -1
	for _, a := range s.Addresses {
		i := slices.Index(s.Families, ipam.FamilyOf(a))
		if i <= at {
			return false
		}
		at = i
	}
	return true
}
