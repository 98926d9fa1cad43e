package ipam

import (
	"cmp"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
)

// Allocator knows the pools and which Services hold which address. The zero value is not
// usable; call New. It is not safe for concurrent use.
type Allocator struct {
	config Config
	// pools are in the order in which they are drawn from: by priority, then name.
	pools []*pool
	// spans are all ranges of all pools in address order, to find an address's pool.
	spans []span
	// reserved is derived from config.Reservations.
	reserved map[netip.Addr]Reservation
	// records are the Services that hold something, by UID.
	records map[string]*record
	// holders are, by address, the records of the Services that hold it, oldest first.
	holders map[netip.Addr][]*record
	// keys are, by sharing key, the addresses with holders that name it.
	keys map[string]map[netip.Addr]bool
	// withdrawing are the addresses for which the last claimant has not acknowledged that
	// it stopped answering, and quarantined those that a machine has, with why.
	withdrawing map[netip.Addr]bool
	quarantined map[netip.Addr]string
	lingering   lingering
}

// Config is what an administrator decides about addresses.
type Config struct {
	Pools        []Pool
	Reservations []Reservation
	// Reassign lets a Service get another address where no pool contains its address now.
	// Otherwise a Configure that would cause this is refused.
	Reassign bool
}

type pool struct {
	Pool
	spaces map[Family]*freelist
	// usage is, by namespace, how many addresses its Services hold.
	usage map[string]int
}

type span struct {
	Range
	pool *pool
}

// record is what one Service holds.
type record struct {
	holder  Holder
	sharing Sharing
	// addresses holds at most one of each family.
	addresses []netip.Addr
}

func (r *record) addressOf(f Family) netip.Addr {
	for _, a := range r.addresses {
		if FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// New returns an Allocator without pools.
func New() *Allocator {
	return &Allocator{
		records:     map[string]*record{},
		holders:     map[netip.Addr][]*record{},
		keys:        map[string]map[netip.Addr]bool{},
		withdrawing: map[netip.Addr]bool{},
		quarantined: map[netip.Addr]string{},
		lingering:   newLingering(),
	}
}

// StrandedError means that a configuration would leave holders outside every pool.
type StrandedError struct {
	// Holders are the Services concerned with their addresses, oldest first.
	Holders []Stranded
}

// Stranded is one address that a configuration would leave outside every pool.
type Stranded struct {
	Holder  Holder
	Address netip.Addr
}

// Error names the holders.
func (e *StrandedError) Error() string {
	const most = 5
	var b strings.Builder
	b.WriteString("addresses in use would be in no pool: ")
	for i, s := range e.Holders {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(e.Holders)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s of Service %s", s.Address, s.Holder)
	}
	b.WriteString("; keep them in a pool, or set onShrink: Reassign to have these Services moved")
	return b.String()
}

// Configure replaces the configuration. No address changes hands. The error is a
// *StrandedError, and then nothing is changed.
func (a *Allocator) Configure(config Config) error {
	next := a.buildNext(config)
	if !config.Reassign {
		if stranded := a.strandedBy(next); len(stranded) > 0 {
			return &StrandedError{Holders: stranded}
		}
	}
	next.withdrawing, next.quarantined, next.lingering = a.withdrawing, a.quarantined, a.lingering
	*a = *next
	return nil
}

// buildNext makes an Allocator with the new pools and the present holders.
func (a *Allocator) buildNext(config Config) *Allocator {
	next := New()
	next.config = config
	next.records, next.holders, next.keys = a.records, a.holders, a.keys
	next.reserved = map[netip.Addr]Reservation{}
	for _, r := range config.Reservations {
		for _, address := range r.Addresses {
			next.reserved[address] = r
		}
	}
	for _, p := range config.Pools {
		next.addPool(p)
	}
	slices.SortFunc(next.pools, func(x, y *pool) int {
		return cmp.Or(cmp.Compare(x.Priority, y.Priority), cmp.Compare(x.Name, y.Name))
	})
	slices.SortFunc(next.spans, func(x, y span) int { return x.First.Compare(y.First) })
	next.inheritFrom(a)
	return next
}

func (a *Allocator) addPool(p Pool) {
	added := &pool{Pool: p, spaces: map[Family]*freelist{}, usage: map[string]int{}}
	byFamily := map[Family][]Range{}
	for _, r := range p.Ranges {
		f := FamilyOf(r.First)
		byFamily[f] = append(byFamily[f], r)
		a.spans = append(a.spans, span{r, added})
	}
	for f, ranges := range byFamily {
		added.spaces[f] = newFreelist(ranges)
	}
	a.pools = append(a.pools, added)
}

// inheritFrom carries over when addresses were freed, and counts the use of the new pools.
func (a *Allocator) inheritFrom(old *Allocator) {
	var freed []freedAddr
	for _, p := range old.pools {
		for _, s := range p.spaces {
			for e := s.freed.Front(); e != nil; e = e.Next() {
				freed = append(freed, e.Value.(freedAddr))
			}
			for address, at := range s.parked {
				if !at.IsZero() {
					freed = append(freed, freedAddr{address, at})
				}
			}
		}
	}
	slices.SortFunc(freed, func(x, y freedAddr) int {
		return cmp.Or(x.at.Compare(y.at), x.address.Compare(y.address))
	})
	for _, f := range freed {
		if s := a.freelistOf(f.address); s != nil {
			s.freeAddress(f.address, f.at)
		}
	}
	for address, holders := range a.holders {
		if p := a.poolOf(address); p != nil {
			for i, r := range holders {
				p.countUse(address, r, holders[:i], 1)
			}
		}
	}
}

// strandedBy returns the Services that hold an address that is in a pool now and in none of
// next.
func (a *Allocator) strandedBy(next *Allocator) []Stranded {
	var out []Stranded
	for address, holders := range a.holders {
		if a.poolOf(address) == nil || next.poolOf(address) != nil {
			continue
		}
		for _, r := range holders {
			out = append(out, Stranded{r.holder, address})
		}
	}
	slices.SortFunc(out, func(x, y Stranded) int {
		return cmp.Or(x.Holder.Compare(y.Holder), x.Address.Compare(y.Address))
	})
	return out
}

// poolOf returns the pool that contains address, or nil.
func (a *Allocator) poolOf(address netip.Addr) *pool {
	i, found := slices.BinarySearchFunc(a.spans, address, func(s span, x netip.Addr) int { return s.First.Compare(x) })
	if !found {
		i--
	}
	if i < 0 || !a.spans[i].Contains(address) {
		return nil
	}
	return a.spans[i].pool
}

func (a *Allocator) freelistOf(address netip.Addr) *freelist {
	if p := a.poolOf(address); p != nil {
		return p.spaces[FamilyOf(address)]
	}
	return nil
}

// PoolOf returns the name of the pool that contains address, or "".
func (a *Allocator) PoolOf(address netip.Addr) string {
	if p := a.poolOf(address); p != nil {
		return p.Name
	}
	return ""
}

// countUse adds n to what p knows of its use for a Service that begins or ends to hold
// address beside others.
func (p *pool) countUse(address netip.Addr, r *record, others []*record, n int) {
	if len(others) == 0 {
		p.spaces[FamilyOf(address)].held += n
	}
	if !hasNamespace(others, r.holder.Namespace) {
		p.usage[r.holder.Namespace] += n
		if p.usage[r.holder.Namespace] == 0 {
			delete(p.usage, r.holder.Namespace)
		}
	}
}

// hasNamespace reports whether one of the records is of a namespace.
func hasNamespace(records []*record, namespace string) bool {
	return slices.ContainsFunc(records, func(r *record) bool { return r.holder.Namespace == namespace })
}

// Held returns what the Service with that UID holds, sorted by address.
func (a *Allocator) Held(uid string) []Assignment {
	r, ok := a.records[uid]
	if !ok {
		return nil
	}
	out := make([]Assignment, 0, len(r.addresses))
	for _, address := range r.addresses {
		out = append(out, Assignment{address, a.PoolOf(address)})
	}
	slices.SortFunc(out, func(x, y Assignment) int { return x.Address.Compare(y.Address) })
	return out
}

// InUse reports whether any Service holds anything.
func (a *Allocator) InUse() bool { return len(a.records) > 0 }

// Holders returns the Services that hold address, oldest first.
func (a *Allocator) Holders(address netip.Addr) []Holder {
	var out []Holder
	for _, r := range a.holders[address] {
		out = append(out, r.holder)
	}
	return out
}

// Withdraw keeps address from being given out automatically until Withdrawn: its last
// claimant may still be answering. A Service that asks for it by name gets it, because then
// the claimant simply goes on.
func (a *Allocator) Withdraw(address netip.Addr) { a.withdrawing[address] = true }

// Withdrawn ends what Withdraw began.
func (a *Allocator) Withdrawn(address netip.Addr) {
	delete(a.withdrawing, address)
	a.unparkAddress(address)
}

// Quarantine keeps address from being given out until Discharge, because a machine has it;
// why says so for people. A holder keeps it.
func (a *Allocator) Quarantine(address netip.Addr, why string) { a.quarantined[address] = why }

// Discharge ends what Quarantine began.
func (a *Allocator) Discharge(address netip.Addr) {
	delete(a.quarantined, address)
	a.unparkAddress(address)
}

// isBlocked reports whether something keeps address from being given out for now.
func (a *Allocator) isBlocked(address netip.Addr) bool {
	_, quarantined := a.quarantined[address]
	return quarantined || a.withdrawing[address] || len(a.lingering.by[address]) > 0
}

func (a *Allocator) unparkAddress(address netip.Addr) {
	if s := a.freelistOf(address); s != nil && !a.isBlocked(address) {
		s.unparkAddress(address)
	}
}

// Usage is how full one family of a pool is.
type Usage struct {
	Pool   string
	Family Family
	// Held counts the addresses in use, Quarantined those that a machine has; Size is
	// all that the pool contains.
	Held, Quarantined int
	Size              *big.Int
}

// Usage returns the fill of every pool and family, by pool name, IPv4 first.
func (a *Allocator) Usage() []Usage {
	quarantined := map[*freelist]int{}
	for address := range a.quarantined {
		quarantined[a.freelistOf(address)]++
	}
	var out []Usage
	for _, p := range a.pools {
		for f, s := range p.spaces {
			out = append(out, Usage{Pool: p.Name, Family: f, Held: s.held, Quarantined: quarantined[s], Size: sizeOf(s.ranges)})
		}
	}
	slices.SortFunc(out, func(x, y Usage) int {
		return cmp.Or(cmp.Compare(x.Pool, y.Pool), cmp.Compare(x.Family, y.Family))
	})
	return out
}

func sizeOf(ranges []Range) *big.Int {
	n := new(big.Int)
	for _, r := range ranges {
		n.Add(n, r.Size())
	}
	return n
}
