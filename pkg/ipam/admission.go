package ipam

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/reason"
)

// mayTake says why the Service may not take that very address, or nil.
func (a *Allocator) mayTake(req *Request, address netip.Addr) *Refusal {
	if refusal := a.mayUse(req, address); refusal != nil {
		return refusal
	}
	if why, quarantined := a.quarantined[address]; quarantined {
		return refusalOf(reason.AddressQuarantined, "address %s is not given out: %s", address, why)
	}
	return a.mayJoin(req, address)
}

// checkContradiction says why a request for address asks for what cannot be, or nil.
func (a *Allocator) checkContradiction(req *Request, address netip.Addr) *Refusal {
	p := a.poolOf(address)
	if req.Pool == "" || p != nil && req.Pool == p.Name {
		return nil
	}
	if p == nil {
		return refusalOf(reason.RequestInvalid, "address %s is in no pool, but pool %q is requested", address, reason.Quote(req.Pool))
	}
	return refusalOf(reason.RequestInvalid, "address %s is in pool %q, but pool %q is requested", address, p.Name, reason.Quote(req.Pool))
}

// mayUse says why the rules do not let the Service have address, or nil. Whether another
// Service holds it is another question.
func (a *Allocator) mayUse(req *Request, address netip.Addr) *Refusal {
	p := a.poolOf(address)
	if p == nil {
		return refusalOf(reason.AddressOutsidePools, "address %s is in no pool", address)
	}
	if refusal := a.checkContradiction(req, address); refusal != nil {
		return refusal
	}
	if refusal := a.checkPool(p, req, FamilyOf(address)); refusal != nil && !(refusal.Reason == reason.QuotaExceeded && hasNamespace(a.holders[address], req.Holder.Namespace)) {
		return refusal
	}
	switch r, reserved := a.reserved[address]; {
	case p.avoidsAddress(address):
		return refusalOf(reason.AddressAvoided, "address %s ends in .0 or .255, which pool %q avoids (avoidBuggyIPs)", address, p.Name)
	case reserved && (r.Namespace != req.Holder.Namespace || r.Name != req.Holder.Name):
		return refusalOf(reason.AddressReserved, "address %s is reserved for another Service", address)
	}
	return a.checkLingering(req, address)
}

// checkPool says why p does not serve the Service with an address of family f, or nil.
// Whether one is free is another question.
func (a *Allocator) checkPool(p *pool, req *Request, f Family) *Refusal {
	switch {
	case p.Disabled:
		return refusalOf(reason.PoolDisabled, "pool %q is disabled and gives out nothing new", p.Name)
	case !p.allowsNamespace(req):
		return refusalOf(reason.PoolNotAllowed, "pool %q is not for namespace %q", p.Name, req.Holder.Namespace)
	case p.ServiceSelector != nil && !p.ServiceSelector.Matches(req.Labels):
		return refusalOf(reason.PoolNotAllowed, "pool %q is only for Services with labels %s", p.Name, p.ServiceSelector)
	case p.spaces[f] == nil:
		return refusalOf(reason.FamilyUnavailable, "pool %q has no %s addresses", p.Name, f)
	case p.MaxPerNamespace > 0 && p.usage[req.Holder.Namespace] >= p.MaxPerNamespace:
		return refusalOf(reason.QuotaExceeded, "namespace %q holds %d addresses of pool %q, which is all it may (maxPerNamespace)",
			req.Holder.Namespace, p.usage[req.Holder.Namespace], p.Name)
	}
	return nil
}

func (p *pool) allowsNamespace(req *Request) bool {
	if len(p.Namespaces) == 0 && p.NamespaceSelector == nil {
		return true
	}
	return slices.Contains(p.Namespaces, req.Holder.Namespace) ||
		p.NamespaceSelector != nil && p.NamespaceSelector.Matches(req.NamespaceLabels)
}

// isSpecific reports whether p names the Services that it is for.
func (p *pool) isSpecific() bool {
	return len(p.Namespaces) > 0 || p.NamespaceSelector != nil || p.ServiceSelector != nil
}

// admittedPools returns the pools that may serve the Service, in the order in which to draw
// from them: those that name its namespace or labels first.
func (a *Allocator) admittedPools(req *Request, f Family) ([]*pool, *Refusal) {
	if req.Pool != "" {
		return a.namedPool(req, f)
	}
	var specific, general []*pool
	var nearest *Refusal
	for _, p := range a.pools {
		if !p.AutoAssign {
			continue
		}
		if refusal := a.checkPool(p, req, f); refusal != nil {
			nearest = nearerRefusal(nearest, refusal)
			continue
		}
		if p.isSpecific() {
			specific = append(specific, p)
		} else {
			general = append(general, p)
		}
	}
	if len(specific)+len(general) > 0 {
		return append(specific, general...), nil
	}
	return nil, a.noPool(req, f, nearest)
}

func (a *Allocator) namedPool(req *Request, f Family) ([]*pool, *Refusal) {
	i := slices.IndexFunc(a.pools, func(p *pool) bool { return p.Name == req.Pool })
	if i < 0 {
		return nil, refusalOf(reason.PoolUnknown, "there is no pool %q", reason.Quote(req.Pool))
	}
	if refusal := a.checkPool(a.pools[i], req, f); refusal != nil {
		return nil, refusal
	}
	return a.pools[i : i+1], nil
}

// noPool says why no pool serves the Service automatically.
func (a *Allocator) noPool(req *Request, f Family, nearest *Refusal) *Refusal {
	switch {
	case nearest == nil:
		return refusalOf(reason.NoPool, "no pool gives out addresses automatically; ask for a pool or an address by name, or set autoAssign on a pool")
	case nearest.Reason == reason.QuotaExceeded:
		return nearest
	case nearest.Reason == reason.FamilyUnavailable:
		return refusalOf(reason.FamilyUnavailable, "no pool that may serve %s has %s addresses", req.Holder, f)
	}
	return refusalOf(reason.NoPool, "no pool may serve %s automatically: %s", req.Holder, nearest.Message)
}

// nearerRefusal returns the refusal of the pool that came closest to serving.
func nearerRefusal(x, y *Refusal) *Refusal {
	rank := func(r *Refusal) int {
		if r == nil {
			return -1
		}
		return slices.Index([]reason.Reason{reason.PoolNotAllowed, reason.PoolDisabled, reason.FamilyUnavailable, reason.QuotaExceeded}, r.Reason)
	}
	if rank(y) > rank(x) {
		return y
	}
	return x
}
