package config

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"baremetal.cloud/ccm/pkg/ipam"
)

// reserver checks the reservations and remembers what earlier ones took.
type reserver struct {
	*checker
	services  map[string]spot // by "namespace/name"
	addresses map[netip.Addr]spot
}

func (c *checker) checkReservations(s spot, shapes []reservation) []ipam.Reservation {
	r := reserver{c, map[string]spot{}, map[netip.Addr]spot{}}
	var out []ipam.Reservation
	for i, shape := range shapes {
		item := s.item(i)
		namespace, name := r.readService(item.key("service"), shape.Service)
		out = append(out, ipam.Reservation{Namespace: namespace, Name: name, Addresses: r.readReserved(item.key("addresses"), shape.Addresses)})
	}
	return out
}

// readService reads "namespace/name".
func (r *reserver) readService(s spot, text string) (namespace, name string) {
	if !s.given() {
		return "", ""
	}
	namespace, name, ok := strings.Cut(text, "/")
	if !ok {
		s.fail("write namespace/name", "%q does not name a Service", text)
		return "", ""
	}
	if !isName(s, namespace, validation.IsDNS1123Label) || !isName(s, name, validation.IsDNS1123Label) {
		return "", ""
	}
	reserveOnce(r.services, s, text, text)
	return namespace, name
}

// readReserved reads the addresses of one reservation.
func (r *reserver) readReserved(s spot, texts []string) []netip.Addr {
	var addresses []netip.Addr
	for i, text := range texts {
		a := r.readAddress(s.item(i), text)
		if !a.IsValid() {
			continue
		}
		if slices.ContainsFunc(addresses, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			s.item(i).fail("", "%s is the second address of its family; a Service has at most one", a)
		}
		addresses = append(addresses, a)
	}
	if s.given() && len(texts) == 0 {
		s.fail("", "a reservation needs at least one address")
	}
	return addresses
}

// readAddress reads one address, which must lie in a pool and be reserved once.
func (r *reserver) readAddress(s spot, text string) netip.Addr {
	if !s.given() {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		s.fail("write one address, without a prefix length", "%q is not an address", text)
		return netip.Addr{}
	}
	inside := slices.ContainsFunc(r.entries, func(e entry) bool { return e.Contains(a) })
	if !inside && !r.badAddress {
		s.fail("add it to the addresses of a pool", "%s is in no pool", a)
	}
	reserveOnce(r.addresses, s, a, a.String())
	return a
}

// reserveOnce notes that what is reserved at s, or reports that it was before.
func reserveOnce[T comparable](taken map[T]spot, s spot, what T, text string) {
	if first, is := taken[what]; is {
		s.fail("remove one of the two", "%s is reserved twice, first by %s at %s", text, first.path, first.position())
	}
	taken[what] = s
}
