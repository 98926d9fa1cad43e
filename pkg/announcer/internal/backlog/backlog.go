// Package backlog keeps addresses that wait for their turn, so that whoever has very many to
// look at can look at some and do something else in between. It is pure.
package backlog

import (
	"maps"
	"net/netip"
	"slices"
)

// Backlog has addresses, each once, in the order in which they came. The zero value is empty.
// It has one user.
type Backlog struct {
	waiting map[netip.Addr]bool
	order   []netip.Addr
}

// Add has address wait, at its place if it does already.
func (b *Backlog) Add(address netip.Addr) {
	if b.waiting[address] {
		return
	}
	if b.waiting == nil {
		b.waiting = map[netip.Addr]bool{}
	}
	b.waiting[address] = true
	b.order = append(b.order, address)
}

// AddKeys has the keys of addresses wait, sorted, so that what comes of it does not depend on
// chance.
func AddKeys[V any](b *Backlog, addresses map[netip.Addr]V) {
	for _, address := range slices.SortedFunc(maps.Keys(addresses), netip.Addr.Compare) {
		b.Add(address)
	}
}

// Take removes the first addresses, at most so many, and returns them.
func (b *Backlog) Take(most int) []netip.Addr {
	taken := b.order[:min(most, len(b.order))]
	b.order = b.order[len(taken):]
	for _, address := range taken {
		delete(b.waiting, address)
	}
	if len(b.order) == 0 {
		*b = Backlog{} // Neither is to stay as large as it may have been once.
	}
	return taken
}

// Has reports whether address waits.
func (b *Backlog) Has(address netip.Addr) bool { return b.waiting[address] }

// Len returns how many addresses wait.
func (b *Backlog) Len() int { return len(b.order) }
