package ipam

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/reason"
)

// Adopt takes over what the status says of a Service that is new to the Allocator, as far
// as the addresses are free and the rules admit the Service to them: another controller
// gave them to it. What it does not adopt is in the findings.
//
// That another machine on the network uses an address is no obstacle: it may well be the
// load balancer that the Service had before.
func (a *Allocator) Adopt(rec Record) []Finding {
	if _, known := a.records[rec.Request.Holder.UID]; known {
		return nil
	}
	var out []Finding
	for _, address := range rec.Addresses {
		out = append(out, a.adoptAddress(&rec, address)...)
	}
	return out
}

func (a *Allocator) adoptAddress(rec *Record, address netip.Addr) []Finding {
	req := &rec.Request
	if refusal := a.mayAdopt(req, address); refusal != nil {
		return []Finding{{Holder: req.Holder, Address: address, Refusal: refusal}}
	}
	r, ok := a.records[req.Holder.UID]
	if !ok {
		r = &record{holder: req.Holder, sharing: req.Sharing}
	}
	a.addHolder(r, address)
	return nil
}

// mayAdopt says why the Service may not go on with an address of its status, or nil.
func (a *Allocator) mayAdopt(req *Request, address netip.Addr) *Refusal {
	f := FamilyOf(address)
	if !slices.Contains(req.Families, f) {
		return refusalOf(reason.RequestInvalid, "status holds %s, but %s is not among the Service's ipFamilies", address, f)
	}
	if r, ok := a.records[req.Holder.UID]; ok && r.addressOf(f).IsValid() {
		return refusalOf(reason.RequestInvalid, "status holds a second %s address, %s", f, address)
	}
	if refusal := a.mayUse(req, address); refusal != nil {
		return refusal
	}
	if refusal := a.mayJoin(req, address); refusal != nil && !a.lacksOnlyKey(req, address) {
		return refusal
	}
	return nil
}

// lacksOnlyKey reports whether the Service and the holders of address break no part of the
// sharing rule but that they name no common key, and one at least of each two names none.
// So do those to which a controller with other annotations gave a common address.
func (a *Allocator) lacksOnlyKey(req *Request, address netip.Addr) bool {
	x := &record{holder: req.Holder, sharing: req.Sharing}
	return !slices.ContainsFunc(a.holders[address], func(y *record) bool {
		return y.holder.UID != req.Holder.UID && !a.lacksKey(address, x, y) && a.breachOf(address, x, y) != ""
	})
}

// lacksKey reports whether all that x and y lack to share address is a common key.
func (a *Allocator) lacksKey(address netip.Addr, x, y *record) bool {
	return (x.sharing.Key == "" || y.sharing.Key == "") && a.breachButKey(address, x, y) == ""
}
