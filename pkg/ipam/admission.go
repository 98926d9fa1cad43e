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
		return refuse(reason.AddressQuarantined, "address %s is not given out: %s", address, why)
	}
	return a.mayJoin(req, address)
}

// contradicts says why a request for address asks for what cannot be, or nil.
func (a *Allocator) contradicts(req *Request, address netip.Addr) *Refusal {
	p := a.poolOf(address)
	if req.Pool == "" || p != nil && req.Pool == p.Name {
		return nil
	}
	if p == nil {
		return refuse(reason.RequestInvalid, "address %s is in no pool, but pool %q is requested", address, reason.Quote(req.Pool))
	}
	return refuse(reason.RequestInvalid, "address %s is in pool %q, but pool %q is requested", address, p.Name, reason.Quote(req.Pool))
}

// mayUse says why the rules do not let the Service have address, or nil. Who else holds it
// is another question.
func (a *Allocator) mayUse(req *Request, address netip.Addr) *Refusal {
	p := a.poolOf(address)
	if p == nil {
		return refuse(reason.AddressOutsidePools, "address %s is in no pool", address)
	}
	if refusal := a.contradicts(req, address); refusal != nil {
		return refusal
	}
	if refusal := a.admits(p, req, FamilyOf(address)); refusal != nil && !(refusal.Reason == reason.QuotaExceeded && of(a.holders[address], req.Holder.Namespace)) {
		return refusal
	}
	switch r, reserved := a.reserved[address]; {
	case p.avoids(address):
		return refuse(reason.AddressAvoided, "address %s ends in .0 or .255, which pool %q avoids (avoidBuggyIPs)", address, p.Name)
	case reserved && (r.Namespace != req.Holder.Namespace || r.Name != req.Holder.Name):
		return refuse(reason.AddressReserved, "address %s is reserved for another Service", address)
	}
	return a.lingers(req, address)
}

// admits says why p does not serve the Service with an address of family f, or nil.
// Whether one is free is another question.
func (a *Allocator) admits(p *pool, req *Request, f Family) *Refusal {
	switch {
	case p.Disabled:
		return refuse(reason.PoolDisabled, "pool %q is disabled and gives out nothing new", p.Name)
	case !p.allowsNamespace(req):
		return refuse(reason.PoolNotAllowed, "pool %q is not for namespace %q", p.Name, req.Holder.Namespace)
	case p.ServiceSelector != nil && !p.ServiceSelector.Matches(req.Labels):
		return refuse(reason.PoolNotAllowed, "pool %q is only for Services with labels %s", p.Name, p.ServiceSelector)
	case p.spaces[f] == nil:
		return refuse(reason.FamilyUnavailable, "pool %q has no %s addresses", p.Name, f)
	case p.MaxPerNamespace > 0 && p.usage[req.Holder.Namespace] >= p.MaxPerNamespace:
		return refuse(reason.QuotaExceeded, "namespace %q holds %d addresses of pool %q, which is all it may (maxPerNamespace)",
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

// specific reports whether p names the Services that it is for.
func (p *pool) specific() bool {
	return len(p.Namespaces) > 0 || p.NamespaceSelector != nil || p.ServiceSelector != nil
}

// admitted returns the pools that may serve the Service, in the order in which to draw
// from them: those that name its namespace or labels first.
func (a *Allocator) admitted(req *Request, f Family) ([]*pool, *Refusal) {
	if req.Pool != "" {
		return a.named(req, f)
	}
	var specific, general []*pool
	var nearest *Refusal
	for _, p := range a.pools {
		if !p.AutoAssign {
			continue
		}
		if refusal := a.admits(p, req, f); refusal != nil {
			nearest = nearer(nearest, refusal)
			continue
		}
		if p.specific() {
			specific = append(specific, p)
		} else {
			general = append(general, p)
		}
	}
	if len(specific)+len(general) > 0 {
		return append(specific, general...), nil
	}
	return nil, a.nobody(req, f, nearest)
}

func (a *Allocator) named(req *Request, f Family) ([]*pool, *Refusal) {
	i := slices.IndexFunc(a.pools, func(p *pool) bool { return p.Name == req.Pool })
	if i < 0 {
		return nil, refuse(reason.PoolUnknown, "there is no pool %q", reason.Quote(req.Pool))
	}
	if refusal := a.admits(a.pools[i], req, f); refusal != nil {
		return nil, refusal
	}
	return a.pools[i : i+1], nil
}

// nobody says why no pool serves the Service automatically.
func (a *Allocator) nobody(req *Request, f Family, nearest *Refusal) *Refusal {
	switch {
	case nearest == nil:
		return refuse(reason.NoPool, "no pool gives out addresses automatically; ask for a pool or an address by name, or set autoAssign on a pool")
	case nearest.Reason == reason.QuotaExceeded:
		return nearest
	case nearest.Reason == reason.FamilyUnavailable:
		return refuse(reason.FamilyUnavailable, "no pool that may serve %s has %s addresses", req.Holder, f)
	}
	return refuse(reason.NoPool, "no pool may serve %s automatically: %s", req.Holder, nearest.Message)
}

// nearer returns the refusal of the pool that came closest to serving.
func nearer(x, y *Refusal) *Refusal {
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
