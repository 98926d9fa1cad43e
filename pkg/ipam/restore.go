package ipam

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/reason"
)

// Record is what a Service's status reports that it holds.
type Record struct {
	Request Request
	// Addresses are those in status.
	Addresses []netip.Addr
	// Shared reports whether the Service is known to have shared its addresses by the rule. If
	// all of their holders are, each keeps them, although an edit may break the rule by now.
	// Services that lack nothing but a common key keep them as well.
	Shared bool
}

// Finding is something that Restore could not take over as it was.
type Finding struct {
	Holder  Holder
	Address netip.Addr
	Refusal *Refusal
	// Kept reports whether the address is held all the same.
	Kept bool
}

// Restore takes over what the Services' status says, before the first Assign. Older
// Services come first: of two that have one address without sharing it the older one,
// then the one with the lower UID, keeps it. Findings are in that order.
func (a *Allocator) Restore(records []Record) []Finding {
	records = slices.Clone(records)
	slices.SortStableFunc(records, func(x, y Record) int { return x.Request.Holder.Compare(y.Request.Holder) })
	var out []Finding
	shared := map[string]bool{}
	for _, rec := range records {
		shared[rec.Request.Holder.UID] = rec.Shared
	}
	for _, rec := range records {
		for _, address := range rec.Addresses {
			out = append(out, a.restoreAddress(&rec, address, shared)...)
		}
	}
	return out
}

func (a *Allocator) restoreAddress(rec *Record, address netip.Addr, shared map[string]bool) []Finding {
	req := &rec.Request
	finding := func(refusal *Refusal, kept bool) []Finding {
		return []Finding{{Holder: req.Holder, Address: address, Refusal: refusal, Kept: kept}}
	}
	r, ok := a.records[req.Holder.UID]
	if !ok {
		r = &record{holder: req.Holder, sharing: req.Sharing}
	}
	switch held := r.addressOf(FamilyOf(address)); {
	case !slices.Contains(req.Families, FamilyOf(address)):
		return finding(refusalOf(reason.RequestInvalid, "status holds %s, but %s is not among the Service's ipFamilies", address, FamilyOf(address)), false)
	case held == address:
		return nil
	case held.IsValid():
		return finding(refusalOf(reason.RequestInvalid, "status holds a second %s address, %s", FamilyOf(address), address), false)
	}
	if refusal := a.mayJoin(req, address); refusal != nil {
		stranger := slices.ContainsFunc(a.holders[address], func(r *record) bool { return !shared[r.holder.UID] })
		if (!rec.Shared || stranger) && !a.lacksOnlyKey(req, address) {
			return finding(refusal, false)
		}
		a.addHolder(r, address)
		return finding(refusal, true)
	}
	a.addHolder(r, address)
	if a.poolOf(address) == nil {
		return finding(refusalOf(reason.AddressOutsidePools, "address %s is in no pool", address), true)
	}
	return nil
}
