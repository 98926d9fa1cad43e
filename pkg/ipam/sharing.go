package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/reason"
)

// indexKey brings keys up to date on whether a holder of address names key.
func (a *Allocator) indexKey(key string, address netip.Addr) {
	if key == "" {
		return
	}
	if slices.ContainsFunc(a.holders[address], func(r *record) bool { return r.sharing.Key == key }) {
		if a.keys[key] == nil {
			a.keys[key] = map[netip.Addr]bool{}
		}
		a.keys[key][address] = true
		return
	}
	delete(a.keys[key], address)
	if len(a.keys[key]) == 0 {
		delete(a.keys, key)
	}
}

// joinShared returns the address of family f that the Services that name the Service's
// sharing key hold, with a refusal where the Service clashes with them. ok is false where
// there is no Service to join.
func (a *Allocator) joinShared(req *Request, f Family) (_ netip.Addr, _ *Refusal, ok bool) {
	var shared []netip.Addr
	for address := range a.keys[req.Sharing.Key] {
		p := a.poolOf(address)
		if FamilyOf(address) == f && p != nil && (req.Pool == "" || p.Name == req.Pool) && a.hasReachableHolder(p, req, address) {
			shared = append(shared, address)
		}
	}
	if len(shared) == 0 {
		return netip.Addr{}, nil, false
	}
	slices.SortFunc(shared, netip.Addr.Compare)
	var first *Refusal
	for _, address := range shared {
		refusal := a.mayTake(req, address)
		if refusal == nil {
			return address, nil, true
		}
		if first == nil {
			first = refusal
		}
	}
	return netip.Addr{}, first, true
}

// hasReachableHolder reports whether a holder of address with the Service's key is of a
// namespace that it may share with at all: keys of other namespaces are other keys.
func (a *Allocator) hasReachableHolder(p *pool, req *Request, address netip.Addr) bool {
	return slices.ContainsFunc(a.holders[address], func(r *record) bool {
		return r.holder.UID != req.Holder.UID && r.sharing.Key == req.Sharing.Key && p.mayMeet(req.Holder.Namespace, r.holder.Namespace)
	})
}

// mayMeet reports whether Services of the two namespaces may share an address of p.
func (p *pool) mayMeet(x, y string) bool {
	return x == y || slices.Contains(p.SharedNamespaces, x) && slices.Contains(p.SharedNamespaces, y)
}

// mayJoin says why the Service may not hold address beside its present holders, or nil.
func (a *Allocator) mayJoin(req *Request, address netip.Addr) *Refusal {
	for _, r := range a.holders[address] {
		if r.holder.UID == req.Holder.UID {
			continue
		}
		breach := a.breachOf(address, &record{holder: req.Holder, sharing: req.Sharing}, r)
		if breach == "" {
			continue
		}
		// Where one of them shares with no Service, the address is plainly in use.
		why := reason.SharingRefused
		if req.Sharing.Key == "" || r.sharing.Key == "" {
			why = reason.AddressInUse
		}
		refusal := refusalOf(why, "address %s is held by %s: %s", address, describeHolder(r.holder, req.Holder.Namespace), breach)
		refusal.Holder = r.holder
		return refusal
	}
	return nil
}

// breachOf says which part of the sharing rule x and y break on address, or "".
func (a *Allocator) breachOf(address netip.Addr, x, y *record) string {
	if x.sharing.Key == "" || y.sharing.Key == "" {
		return "both must name the same sharing key"
	}
	return a.breachButKey(address, x, y)
}

// breachButKey is breachOf for two records of which one may name no key.
func (a *Allocator) breachButKey(address netip.Addr, x, y *record) string {
	p := a.poolOf(address)
	sameNamespace := x.holder.Namespace == y.holder.Namespace
	switch {
	case !sameNamespace && (p == nil || !p.mayMeet(x.holder.Namespace, y.holder.Namespace)):
		return "the pool does not let these namespaces share (sharedNamespaces)"
	case x.sharing.Key != "" && y.sharing.Key != "" && x.sharing.Key != y.sharing.Key:
		return "the sharing keys differ"
	}
	if port, ok := x.commonPort(y); ok {
		return fmt.Sprintf("both use port %d/%s", port.Number, port.Protocol)
	}
	switch {
	case x.sharing.Local != y.sharing.Local:
		return "externalTrafficPolicy must be the same on both"
	case x.sharing.Local && x.sharing.Selector != y.sharing.Selector:
		return "with externalTrafficPolicy Local both must select the same Pods"
	}
	return ""
}

// commonPort returns the first port of r that o uses too.
func (r *record) commonPort(o *record) (Port, bool) {
	i := slices.IndexFunc(r.sharing.Ports, func(p Port) bool { return slices.Contains(o.sharing.Ports, p) })
	if i < 0 {
		return Port{}, false
	}
	return r.sharing.Ports[i], true
}

// Clashes returns the breaches of the sharing rule on what the Service with that UID
// holds, sorted by address, then by age of the other holder.
func (a *Allocator) Clashes(uid string) []Clash {
	r, ok := a.records[uid]
	if !ok {
		return nil
	}
	return a.clashesOf(r)
}

// clashesOf returns the breaches of the sharing rule on what r holds.
func (a *Allocator) clashesOf(r *record) []Clash {
	var out []Clash
	for _, address := range r.addresses {
		for _, other := range a.holders[address] {
			if other == r {
				continue
			}
			if breach := a.breachOf(address, r, other); breach != "" {
				_, same := r.commonPort(other)
				clash := Clash{Address: address, With: other.holder, Why: breach, SamePort: same, KeyMissing: a.lacksKey(address, r, other)}
				if clash.KeyMissing {
					clash.Key = commonKey(r, other)
				}
				out = append(out, clash)
			}
		}
	}
	// Holders of one address are in order already.
	slices.SortStableFunc(out, func(x, y Clash) int { return x.Address.Compare(y.Address) })
	return out
}

// commonKey proposes a sharing key for r and other: one that is named already, or r's own
// name. A Service of another namespace is not quoted.
func commonKey(r, other *record) string {
	if other.holder.Namespace != r.holder.Namespace {
		other = &record{}
	}
	return cmp.Or(r.sharing.Key, other.sharing.Key, r.sharing.ForeignKey, other.sharing.ForeignKey, olderRecord(r, other).holder.Name)
}

func olderRecord(x, y *record) *record {
	if y.holder.UID != "" && y.holder.Compare(x.holder) < 0 {
		return y
	}
	return x
}
