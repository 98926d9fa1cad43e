// Package addressqueue keeps addresses that wait for their turn, so that a caller with very many
// to look at can look at some and do something else in between. It is pure.
package addressqueue

import (
	"maps"
	"net/netip"
	"slices"
)

// Queue has addresses in the order in which they came, and before them those that do not wait
// for the others. The zero value is empty. It has one user.
type Queue struct{ urgent, others addressList }

// Add makes address wait, at its place if it does already.
func (b *Queue) Add(address netip.Addr) { b.others.addAddress(address) }

// AddUrgent makes address wait for urgent ones only. One that waits among the others already
// comes up there too.
func (b *Queue) AddUrgent(address netip.Addr) { b.urgent.addAddress(address) }

// AddKeys makes the keys of addresses wait, sorted, so that what comes of it does not depend on
// chance.
func AddKeys[V any](b *Queue, addresses map[netip.Addr]V) {
	for _, address := range slices.SortedFunc(maps.Keys(addresses), netip.Addr.Compare) {
		b.Add(address)
	}
}

// Take removes the first addresses, at most so many, and returns them.
func (b *Queue) Take(most int) []netip.Addr {
	if len(b.urgent.order) == 0 {
		return b.others.takeFirst(most)
	}
	urgent := b.urgent.takeFirst(most)
	return slices.Concat(urgent, b.others.takeFirst(most-len(urgent)))
}

// Has reports whether address waits.
func (b *Queue) Has(address netip.Addr) bool {
	return b.urgent.waiting[address] || b.others.waiting[address]
}

// Len returns how many addresses wait.
func (b *Queue) Len() int { return len(b.urgent.order) + len(b.others.order) }

// addressList has addresses, each once.
type addressList struct {
	waiting map[netip.Addr]bool
	order   []netip.Addr
}

func (q *addressList) addAddress(address netip.Addr) {
	if q.waiting[address] {
		return
	}
	if q.waiting == nil {
		q.waiting = map[netip.Addr]bool{}
	}
	q.waiting[address] = true
	q.order = append(q.order, address)
}

func (q *addressList) takeFirst(most int) []netip.Addr {
	taken := q.order[:min(most, len(q.order))]
	q.order = q.order[len(taken):]
	for _, address := range taken {
		delete(q.waiting, address)
	}
	if len(q.order) == 0 {
		*q = addressList{} // Neither may stay as large as it may have been once.
	}
	return taken
}
