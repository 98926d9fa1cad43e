package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/reason"
)

// Assign gives the Service what it asks for, as far as the rules allow, and returns
// what it holds afterwards. What it holds already stays as long as that satisfies the
// request; the rules are asked only when an address is taken. The error is a *Refusal
// or nil; the Result is valid either way and never holds less than before, except for
// families that are no longer wanted.
func (a *Allocator) Assign(req Request, now time.Time) (Result, error) {
	r := a.refreshRecord(req)
	if refusal := req.checkRequest(); refusal != nil {
		return a.resultOf(&req, nil, nil), refusal
	}
	// What is held is not judged again, but a request that contradicts itself is refused as if
	// it came from a new Service.
	for _, address := range r.addresses {
		if refusal := a.checkContradiction(&req, address); refusal != nil && slices.Contains(req.Addresses, address) {
			return a.resultOf(&req, nil, nil), refusal
		}
	}
	chosen, refusals := a.chooseAll(&req, r, now)
	if refusal := a.checkChosen(&req, r, chosen, refusals); refusal != nil {
		return a.resultOf(&req, nil, nil), refusal
	}
	freed := a.commitChosen(&req, chosen, now)
	var missing *Refusal
	if len(refusals) > 0 {
		missing = refusals[0]
	}
	return a.resultOf(&req, missing, freed), nil
}

// Release frees everything that the Service with that UID holds and returns it.
// Releasing what is not held does nothing.
func (a *Allocator) Release(uid string, now time.Time) []netip.Addr {
	r, ok := a.records[uid]
	if !ok {
		return nil
	}
	freed := slices.Clone(r.addresses)
	for _, address := range freed {
		a.removeHolder(r, address, now)
	}
	return freed
}

// refreshRecord takes over what the request says of a Service that already holds something.
// Its ports are facts, whatever becomes of the request.
func (a *Allocator) refreshRecord(req Request) *record {
	r, ok := a.records[req.Holder.UID]
	if !ok {
		return &record{holder: req.Holder, sharing: req.Sharing}
	}
	oldKey := r.sharing.Key
	r.holder, r.sharing = req.Holder, req.Sharing
	if oldKey != req.Sharing.Key {
		for _, address := range r.addresses {
			a.indexKey(oldKey, address)
			a.indexKey(req.Sharing.Key, address)
		}
	}
	return r
}

// chooseAll finds an address for each family, in their order, without changing what any
// Service holds. Zero addresses are for families that got none.
func (a *Allocator) chooseAll(req *Request, r *record, now time.Time) (chosen []netip.Addr, refusals []*Refusal) {
	for _, f := range req.Families {
		address, refusal := a.chooseForFamily(req, r, f, now)
		if refusal != nil {
			refusals = append(refusals, refusal)
		}
		chosen = append(chosen, address)
	}
	return chosen, refusals
}

// chooseForFamily returns what the Service should hold of family f. With a refusal it
// returns what the Service holds already, if anything.
func (a *Allocator) chooseForFamily(req *Request, r *record, f Family, now time.Time) (netip.Addr, *Refusal) {
	held := r.addressOf(f)
	if want := req.requestedAddress(f); want.IsValid() {
		if want == held {
			return held, nil
		}
		if refusal := a.mayTake(req, want); refusal != nil {
			return held, refusal
		}
		return want, nil
	}
	if held.IsValid() && a.mayKeep(req, held) {
		return held, nil
	}
	address, refusal := a.pickAddress(req, f, now)
	if refusal != nil {
		return held, refusal
	}
	return address, nil
}

// mayKeep reports whether an address that is held, and was not asked for by name,
// may stay.
func (a *Allocator) mayKeep(req *Request, held netip.Addr) bool {
	p := a.poolOf(held)
	if p == nil {
		return !a.config.Reassign && req.Pool == ""
	}
	return req.Pool == "" || req.Pool == p.Name
}

// checkChosen decides whether what was chosen is good enough to be committed.
func (a *Allocator) checkChosen(req *Request, r *record, chosen []netip.Addr, refusals []*Refusal) *Refusal {
	if len(refusals) == 0 {
		return nil
	}
	if req.RequireAll {
		return refusals[0]
	}
	got := false
	for i, f := range req.Families {
		want, held := req.requestedAddress(f), r.addressOf(f)
		switch {
		case want.IsValid() && chosen[i] != want:
			return refusals[0]
		case chosen[i].IsValid() && chosen[i] == held && !want.IsValid() && !a.mayKeep(req, held):
			return refusals[0]
		case chosen[i].IsValid():
			got = true
		}
	}
	if !got {
		return refusals[0]
	}
	return nil
}

// commitChosen makes the Service hold exactly what was chosen and returns what it freed.
func (a *Allocator) commitChosen(req *Request, chosen []netip.Addr, now time.Time) (freed []netip.Addr) {
	r, ok := a.records[req.Holder.UID]
	if !ok {
		r = &record{holder: req.Holder, sharing: req.Sharing}
	}
	for _, address := range slices.Clone(r.addresses) {
		if !slices.Contains(chosen, address) {
			a.removeHolder(r, address, now)
			freed = append(freed, address)
		}
	}
	for _, address := range chosen {
		if address.IsValid() && !slices.Contains(r.addresses, address) {
			a.addHolder(r, address)
		}
	}
	return freed
}

// addHolder makes r hold address.
func (a *Allocator) addHolder(r *record, address netip.Addr) {
	a.records[r.holder.UID] = r
	r.addresses = append(r.addresses, address)
	others := a.holders[address]
	if p := a.poolOf(address); p != nil {
		p.countUse(address, r, others, 1)
		p.spaces[FamilyOf(address)].takeAddress(address)
	}
	holders := append(others, r)
	slices.SortFunc(holders, func(x, y *record) int { return x.holder.Compare(y.holder) })
	a.holders[address] = holders
	a.indexKey(r.sharing.Key, address)
}

// removeHolder ends r's hold on address.
func (a *Allocator) removeHolder(r *record, address netip.Addr, now time.Time) {
	r.addresses = slices.DeleteFunc(r.addresses, func(x netip.Addr) bool { return x == address })
	if len(r.addresses) == 0 {
		delete(a.records, r.holder.UID)
	}
	others := slices.DeleteFunc(a.holders[address], func(x *record) bool { return x == r })
	if len(others) > 0 {
		a.holders[address] = others
	} else {
		delete(a.holders, address)
	}
	a.indexKey(r.sharing.Key, address)
	if p := a.poolOf(address); p != nil {
		p.countUse(address, r, others, -1)
		if len(others) == 0 {
			p.spaces[FamilyOf(address)].freeAddress(address, now)
		}
	}
}

// resultOf reports what the Service holds, in the order of its families.
func (a *Allocator) resultOf(req *Request, missing *Refusal, freed []netip.Addr) Result {
	out := Result{Missing: missing, Freed: freed}
	r, ok := a.records[req.Holder.UID]
	if !ok {
		return out
	}
	order := slices.Clone(req.Families)
	for _, f := range []Family{IPv4, IPv6} {
		if !slices.Contains(order, f) {
			order = append(order, f)
		}
	}
	for _, f := range order {
		if address := r.addressOf(f); address.IsValid() {
			out.Assignments = append(out.Assignments, Assignment{address, a.PoolOf(address)})
		}
	}
	out.Clashes = a.clashesOf(r)
	return out
}

// pickAddress finds an address that the Service did not ask for by name: one reserved for it,
// the one of those it shares with, or a free one.
func (a *Allocator) pickAddress(req *Request, f Family, now time.Time) (netip.Addr, *Refusal) {
	if address, ok := a.reservedFor(req, f); ok {
		return address, a.mayTake(req, address)
	}
	if address, refusal, ok := a.joinShared(req, f); ok {
		return address, refusal
	}
	pools, refusal := a.admittedPools(req, f)
	if refusal != nil {
		return netip.Addr{}, refusal
	}
	// Addresses that still rest are looked at only when no pool has another one.
	for _, rested := range []bool{true, false} {
		for _, p := range pools {
			var limit time.Time
			if rested {
				limit = now.Add(-p.ReuseAfter)
			}
			if address, ok := p.spaces[f].nextFree(limit, a.freeFilter(p)); ok {
				return address, nil
			}
		}
	}
	return netip.Addr{}, a.exhaustedRefusal(req, pools, f)
}

func (a *Allocator) exhaustedRefusal(req *Request, pools []*pool, f Family) *Refusal {
	lost := a.quarantinedText(pools, f)
	if len(pools) == 1 {
		return refusalOf(reason.PoolExhausted, "pool %q has no free %s address%s; free one, or add addresses to the pool", pools[0].Name, f, lost)
	}
	return refusalOf(reason.PoolExhausted, "none of the %d pools that may serve %s has a free %s address%s; free one, or add addresses", len(pools), req.Holder, f, lost)
}

// quarantinedText says how many addresses of the pools machines have, if any.
func (a *Allocator) quarantinedText(pools []*pool, f Family) string {
	n := 0
	for address := range a.quarantined {
		if FamilyOf(address) == f && slices.Contains(pools, a.poolOf(address)) && len(a.holders[address]) == 0 {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (nodes or other machines on the network have %d)", n)
}

// freeFilter says of an address of p, met in the search for a free one, whether it is.
func (a *Allocator) freeFilter(p *pool) func(netip.Addr) verdict {
	return func(address netip.Addr) verdict {
		_, reserved := a.reserved[address]
		switch {
		case len(a.holders[address]) > 0, p.avoidsAddress(address):
			return taken
		case reserved || a.isBlocked(address):
			return blocked
		}
		return usable
	}
}

func (p *pool) avoidsAddress(address netip.Addr) bool {
	if !p.AvoidBuggyIPs || !address.Is4() {
		return false
	}
	last := address.As4()[3]
	return last == 0 || last == 255
}

// reservedFor returns a reserved address of family f that the Service does not hold yet.
func (a *Allocator) reservedFor(req *Request, f Family) (netip.Addr, bool) {
	for _, r := range a.config.Reservations {
		if r.Namespace != req.Holder.Namespace || r.Name != req.Holder.Name {
			continue
		}
		for _, address := range r.Addresses {
			if FamilyOf(address) == f && (req.Pool == "" || req.Pool == a.PoolOf(address)) {
				return address, true
			}
		}
	}
	return netip.Addr{}, false
}
