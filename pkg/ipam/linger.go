package ipam

import (
	"maps"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/reason"
)

// lingering are addresses that a Service does not hold and that its status still shows. A
// service proxy serves what the status shows, so another Service that held such an address
// would be answered by the wrong Pods.
type lingering struct {
	by        map[netip.Addr]map[string]Holder
	addresses map[string]map[netip.Addr]bool // by UID
}

func newLingering() lingering {
	return lingering{by: map[netip.Addr]map[string]Holder{}, addresses: map[string]map[netip.Addr]bool{}}
}

// Linger keeps address from being given to another Service until Cleared: the status of
// holder, which does not hold it, still shows it.
func (a *Allocator) Linger(address netip.Addr, holder Holder) {
	l := &a.lingering
	if l.by[address] == nil {
		l.by[address] = map[string]Holder{}
	}
	l.by[address][holder.UID] = holder
	if l.addresses[holder.UID] == nil {
		l.addresses[holder.UID] = map[netip.Addr]bool{}
	}
	l.addresses[holder.UID][address] = true
}

// Cleared ends what Linger began for one Service. It reports whether nothing keeps address
// from being given out now.
func (a *Allocator) Cleared(address netip.Addr, uid string) (free bool) {
	l := &a.lingering
	delete(l.by[address], uid)
	if len(l.by[address]) == 0 {
		delete(l.by, address)
	}
	delete(l.addresses[uid], address)
	if len(l.addresses[uid]) == 0 {
		delete(l.addresses, uid)
	}
	a.unparkAddress(address)
	return !a.isBlocked(address)
}

// Lingering returns the addresses that the Service with that UID does not hold and that its
// status still shows, sorted.
func (a *Allocator) Lingering(uid string) []netip.Addr {
	return slices.SortedFunc(maps.Keys(a.lingering.addresses[uid]), netip.Addr.Compare)
}

// checkLingering says why the Service may not take address while the status of another one shows
// it, or nil.
func (a *Allocator) checkLingering(req *Request, address netip.Addr) *Refusal {
	var oldest *Holder
	for uid, h := range a.lingering.by[address] {
		if uid != req.Holder.UID && (oldest == nil || h.Compare(*oldest) < 0) {
			oldest = &h
		}
	}
	if oldest == nil {
		return nil
	}
	refusal := refusalOf(reason.AddressInUse, "address %s is still in the status of %s, which is about to lose it", address, describeHolder(*oldest, req.Holder.Namespace))
	refusal.Holder = *oldest
	return refusal
}

// Free reports whether a pool may give out address now.
func (a *Allocator) Free(address netip.Addr) bool {
	p := a.poolOf(address)
	return p != nil && len(a.holders[address]) == 0 && !p.avoidsAddress(address) && !a.isBlocked(address)
}

// Draws reports whether the Service may be given that free address without asking for it.
func (a *Allocator) Draws(req Request, address netip.Addr) bool {
	p, f := a.poolOf(address), FamilyOf(address)
	if p == nil || !slices.Contains(req.Families, f) {
		return false
	}
	r, reserved := a.reserved[address]
	switch {
	case reserved && (r.Namespace != req.Holder.Namespace || r.Name != req.Holder.Name):
		return false
	case req.Pool != "" && req.Pool != p.Name, req.Pool == "" && !reserved && !p.AutoAssign:
		return false
	}
	return a.checkPool(p, &req, f) == nil
}
