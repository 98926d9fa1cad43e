// Package backlog keeps addresses that wait for their turn, so that whoever has very many to
// look at can look at some and do something else in between. It is pure.
package backlog

import (
	"maps"
	"net/netip"
	"slices"
)

// Backlog has addresses in the order in which they came, and before them those that do not wait
// for the others. The zero value is empty. It has one user.
type Backlog struct{ urgent, others queue }

// Add has address wait, at its place if it does already.
func (b *Backlog) Add(address netip.Addr) { b.others.add(address) }

// AddUrgent has address wait for urgent ones only. One that waits among the others already
// comes up there too.
func (b *Backlog) AddUrgent(address netip.Addr) { b.urgent.add(address) }

// AddKeys has the keys of addresses wait, sorted, so that what comes of it does not depend on
// chance.
func AddKeys[V any](b *Backlog, addresses map[netip.Addr]V) {
	for _, address := range slices.SortedFunc(maps.Keys(addresses), netip.Addr.Compare) {
		b.Add(address)
	}
}

// Take removes the first addresses, at most so many, and returns them.
func (b *Backlog) Take(most int) []netip.Addr {
	if len(b.urgent.order) == 0 {
		return b.others.take(most)
	}
	urgent := b.urgent.take(most)
	return slices.Concat(urgent, b.others.take(most-len(urgent)))
}

// Has reports whether address waits.
func (b *Backlog) Has(address netip.Addr) bool {
	return b.urgent.waiting[address] || b.others.waiting[address]
}

// Len returns how many addresses wait.
func (b *Backlog) Len() int { return len(b.urgent.order) + len(b.others.order) }

// queue has addresses, each once.
type queue struct {
	waiting map[netip.Addr]bool
	order   []netip.Addr
}

func (q *queue) add(address netip.Addr) {
	if q.waiting[address] {
		return
	}
	if q.waiting == nil {
		q.waiting = map[netip.Addr]bool{}
	}
	q.waiting[address] = true
	q.order = append(q.order, address)
}

func (q *queue) take(most int) []netip.Addr {
	taken := q.order[:min(most, len(q.order))]
	q.order = q.order[len(taken):]
	for _, address := range taken {
		delete(q.waiting, address)
	}
	if len(q.order) == 0 {
		*q = queue{} // Neither is to stay as large as it may have been once.
	}
	return taken
}
