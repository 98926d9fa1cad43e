package cloudconfig

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/util/validation"

	"baremetal.cloud/ccm/pkg/ipam"
)

// reserver reads the reservations and remembers what earlier ones took.
type reserver struct {
	*walker
	services  map[string]string // "namespace/name" → where it was reserved for
	addresses map[netip.Addr]string
}

func (w *walker) reservations(n *yaml.Node, path string) []ipam.Reservation {
	r := reserver{w, map[string]string{}, map[netip.Addr]string{}}
	var reservations []ipam.Reservation
	w.list(n, path, func(v *yaml.Node, at string) {
		reservations = append(reservations, r.reservation(v, at))
	})
	return reservations
}

func (r *reserver) reservation(n *yaml.Node, path string) ipam.Reservation {
	var out ipam.Reservation
	r.object(n, path, map[string]reader{
		"service":   func(v *yaml.Node, at string) { out.Namespace, out.Name = r.service(v, at) },
		"addresses": func(v *yaml.Node, at string) { out.Addresses = r.reserved(v, at) },
	}, "service", "addresses")
	return out
}

// service reads "namespace/name".
func (r *reserver) service(n *yaml.Node, path string) (namespace, name string) {
	s, ok := r.text(n, path)
	if !ok {
		return "", ""
	}
	namespace, name, ok = strings.Cut(s, "/")
	if !ok {
		r.fail(n, path, "write namespace/name", "%q does not name a Service", s)
		return "", ""
	}
	for _, part := range []string{namespace, name} {
		for _, why := range validation.IsDNS1123Label(part) {
			r.fail(n, path, "", "%q is not a name: %s", part, why)
			return "", ""
		}
	}
	r.once(n, path, r.services[s], s)
	r.services[s] = at(n, path)
	return namespace, name
}

// reserved reads the addresses of one reservation.
func (r *reserver) reserved(n *yaml.Node, path string) []netip.Addr {
	var addresses []netip.Addr
	r.list(n, path, func(v *yaml.Node, at string) {
		if a := r.address(v, at); a.IsValid() {
			if slices.ContainsFunc(addresses, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
				r.fail(v, at, "", "%s is the second address of its family; a Service has at most one", a)
			}
			addresses = append(addresses, a)
		}
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		r.fail(n, path, "", "a reservation needs at least one address")
	}
	return addresses
}

// address reads one address, which must lie in a pool and be reserved once.
func (r *reserver) address(n *yaml.Node, path string) netip.Addr {
	s, ok := r.text(n, path)
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		r.fail(n, path, "write one address, without a prefix length", "%q is not an address", s)
		return netip.Addr{}
	}
	inside := slices.ContainsFunc(r.entries, func(e entry) bool { return e.Contains(a) })
	if !inside && !r.badAddress {
		r.fail(n, path, "add it to the addresses of a pool", "%s is in no pool", a)
	}
	r.once(n, path, r.addresses[a], a.String())
	r.addresses[a] = at(n, path)
	return a
}

// once reports that what was reserved before, at first.
func (r *reserver) once(n *yaml.Node, path, first, what string) {
	if first != "" {
		r.fail(n, path, "remove one of the two", "%s is reserved twice, first by %s", what, first)
	}
}

func at(n *yaml.Node, path string) string {
	return fmt.Sprintf("%s at %d:%d", path, n.Line, n.Column)
}
