package cloud

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// byPublished is the index of Services by the addresses in their status.
const byPublished = "published"

func indexByPublished(obj any) ([]string, error) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil, nil
	}
	var out []string
	for _, address := range publishedAddresses(svc) {
		out = append(out, address.String())
	}
	return out, nil
}

const (
	// othersPeriod is how often it is looked whether another Service's status lets go of
	// an address, and othersPatience for how long at most.
	othersPeriod   = 20 * time.Millisecond
	othersPatience = 2 * time.Second
)

// afterOthers returns what of the addresses want svc's status is to hold now. An address
// that changed hands is not published before the status of the Service that had it lets
// go of it: the statuses are the record of truth, and a leader that ends between the two
// writes must not leave one address with two Services. wait says that svc's status stays
// as it is for now.
func (p *Provider) afterOthers(svc *corev1.Service, want []netip.Addr) (now []netip.Addr, wait bool) {
	before := publishedAddresses(svc)
	lingers := slices.ContainsFunc(want, func(a netip.Addr) bool {
		return !slices.Contains(before, a) && p.lingers(svc, a)
	})
	if !p.said.yields(svc, lingers, p.core.now()) {
		return want, false
	}
	return before, true
}

// lingers reports whether the status of a Service that does not hold address any more
// still names it.
func (p *Provider) lingers(svc *corev1.Service, address netip.Addr) bool {
	others, err := p.listers.published.ByIndex(byPublished, address.String())
	utilruntime.Must(err) // the index is registered before the informers start
	holders := p.core.holders(address)
	return slices.ContainsFunc(others, func(o any) bool {
		other, ok := o.(*corev1.Service)
		return ok && other.UID != svc.UID && served(other, p.class()) && !slices.Contains(holders, string(other.UID))
	})
}

// yields notes whether svc has to wait for another status, and reports whether it does:
// not for ever, for the other one may never be written.
func (s *sayings) yields(svc *corev1.Service, lingers bool, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.of(svc)
	if !lingers {
		said.yielding = time.Time{}
		return false
	}
	if said.yielding.IsZero() {
		said.yielding = now
	}
	return now.Sub(said.yielding) < othersPatience
}
