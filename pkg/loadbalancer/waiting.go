package loadbalancer

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/reason"
)

// waitlist holds the Services that lack an address by what could give them one, each list
// with the oldest first: thousands may wait, and an address that is freed is of use to few.
type waitlist struct {
	// drawing take an address that the pools give out.
	drawing []*service
	// named ask for an address, keyed name a sharing key, and limited, by namespace, were
	// refused by a quota.
	named  map[netip.Addr][]*service
	keyed  map[string][]*service
	limits map[string][]*service
	// listed says where a Service, by UID, is listed.
	listed map[string]listing
}

// listing is where one Service is listed.
type listing struct {
	draws     bool
	addresses []netip.Addr
	key       string
	limited   string
}

func newWaitlist() waitlist {
	return waitlist{
		named: map[netip.Addr][]*service{}, keyed: map[string][]*service{}, limits: map[string][]*service{}, listed: map[string]listing{},
	}
}

// isWaiting reports whether s lacks an address.
func (s *service) isWaiting() bool { return s.refusal != nil || s.result.Missing != nil }

func byAge(x, y *service) int { return x.Holder.Compare(y.Holder) }

func insertService(list []*service, s *service) []*service {
	i, _ := slices.BinarySearchFunc(list, s, byAge)
	return slices.Insert(list, i, s)
}

func withoutService(list []*service, s *service) []*service {
	i, found := slices.BinarySearchFunc(list, s, byAge)
	if !found {
		return list
	}
	return slices.Delete(list, i, i+1)
}

// updateService lists s as it waits now.
func (w *waitlist) updateService(s *service) {
	w.removeService(s)
	if !s.isWaiting() {
		return
	}
	at := listing{draws: len(s.Addresses) < len(s.Families), addresses: slices.Compact(slices.SortedFunc(slices.Values(s.Addresses), netip.Addr.Compare)), key: s.Sharing.Key}
	if s.refusal != nil && s.refusal.Reason == reason.QuotaExceeded || s.result.Missing != nil && s.result.Missing.Reason == reason.QuotaExceeded {
		at.limited = s.Holder.Namespace
	}
	w.listed[s.Holder.UID] = at
	if at.draws {
		w.drawing = insertService(w.drawing, s)
	}
	for _, address := range at.addresses {
		w.named[address] = insertService(w.named[address], s)
	}
	if at.key != "" {
		w.keyed[at.key] = insertService(w.keyed[at.key], s)
	}
	if at.limited != "" {
		w.limits[at.limited] = insertService(w.limits[at.limited], s)
	}
}

// removeService takes s off all lists.
func (w *waitlist) removeService(s *service) {
	at, ok := w.listed[s.Holder.UID]
	if !ok {
		return
	}
	delete(w.listed, s.Holder.UID)
	if at.draws {
		w.drawing = withoutService(w.drawing, s)
	}
	for _, address := range at.addresses {
		removeFrom(w.named, address, s)
	}
	removeFrom(w.keyed, at.key, s)
	removeFrom(w.limits, at.limited, s)
}

func removeFrom[K comparable](lists map[K][]*service, key K, s *service) {
	if lists[key] = withoutService(lists[key], s); len(lists[key]) == 0 {
		delete(lists, key)
	}
}

// offers are what may be of use to Services that wait.
type offers struct {
	// all asks every Service: what was changed may concern any of them.
	all       bool
	addresses map[netip.Addr]bool
	// keys are sharing keys with changed holders, and namespaces hold less than before.
	keys, namespaces map[string]bool
}

func newOffers() offers {
	return offers{addresses: map[netip.Addr]bool{}, keys: map[string]bool{}, namespaces: map[string]bool{}}
}

func (o *offers) hasAny() bool { return o.all || len(o.addresses)+len(o.keys)+len(o.namespaces) > 0 }

// offerFreed offers what the Service s held.
func (b *Balancer) offerFreed(s *service, freed []netip.Addr) {
	for _, address := range freed {
		b.offers.addresses[address] = true
	}
	if len(freed) > 0 {
		b.offers.namespaces[s.Holder.Namespace] = true
		b.offerKey(s.Sharing.Key)
	}
}

func (b *Balancer) offerKey(key string) {
	if key != "" {
		b.offers.keys[key] = true
	}
}

// Freed reports whether something has become available since it was last asked, so that
// Retry may find something.
func (b *Balancer) Freed() bool {
	if !b.offers.hasAny() {
		return false
	}
	b.ready.addOffers(b.offers)
	b.offers = newOffers()
	return true
}

func (o *offers) addOffers(more offers) {
	o.all = o.all || more.all
	maps.Copy(o.addresses, more.addresses)
	maps.Copy(o.keys, more.keys)
	maps.Copy(o.namespaces, more.namespaces)
}

// Retry asks again for the Services that wait and for which something that has become
// available may be of use, the oldest first, and returns the UIDs of those for which
// something changed.
func (b *Balancer) Retry(now time.Time) []string {
	b.Freed()
	ready := b.ready
	b.ready = newOffers()
	free := b.drawableOf(ready)
	concerned := b.concernedBy(ready)
	drawing := slices.Clone(b.waiting.drawing)
	if len(free) == 0 {
		drawing = nil
	}
	var changed []string
	for len(concerned)+len(drawing) > 0 {
		var s *service
		switch {
		case len(drawing) == 0 || len(concerned) > 0 && byAge(concerned[0], drawing[0]) <= 0:
			s, concerned = concerned[0], concerned[1:]
			if len(drawing) > 0 && drawing[0] == s {
				drawing = drawing[1:]
			}
		default:
			s, drawing = drawing[0], drawing[1:]
			if !slices.ContainsFunc(free, func(a netip.Addr) bool { return b.addresses.Draws(s.Request, a) }) {
				continue
			}
		}
		before := s.result.Assignments
		_ = b.assignAddresses(s, now) // the refusal is kept in s
		if slices.Equal(before, s.result.Assignments) {
			continue
		}
		changed = append(changed, s.Holder.UID)
		if free = slices.DeleteFunc(free, func(a netip.Addr) bool { return !b.addresses.Free(a) }); len(free) == 0 {
			drawing = nil
		}
	}
	return changed
}

// drawableOf returns the addresses of o that a pool may give out now, sorted.
func (b *Balancer) drawableOf(o offers) []netip.Addr {
	var out []netip.Addr
	for address := range o.addresses {
		if b.addresses.Free(address) {
			out = append(out, address)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// concernedBy returns the Services that wait for what is offered by name, by a sharing key or
// because of a quota, the oldest first.
func (b *Balancer) concernedBy(o offers) []*service {
	found := map[*service]bool{}
	add := func(list []*service) {
		for _, s := range list {
			found[s] = true
		}
	}
	if o.all {
		for _, s := range b.services {
			if s.isWaiting() {
				found[s] = true
			}
		}
	}
	for address := range o.addresses {
		add(b.waiting.named[address])
		for _, h := range b.addresses.Holders(address) {
			if holder, ok := b.services[h.UID]; ok && holder.Sharing.Key != "" {
				add(b.waiting.keyed[holder.Sharing.Key])
			}
		}
	}
	for key := range o.keys {
		add(b.waiting.keyed[key])
	}
	for namespace := range o.namespaces {
		add(b.waiting.limits[namespace])
	}
	return slices.SortedFunc(maps.Keys(found), byAge)
}
