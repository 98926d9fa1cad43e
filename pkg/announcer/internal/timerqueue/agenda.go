// Package timerqueue keeps when something is due for which address. Finding the next one takes
// no time, and changing one the logarithm of how many there are. It is pure: what time is,
// its user says.
package timerqueue

import (
	"container/heap"
	"math"
	"net/netip"
)

// Queue has a time for each of some addresses. It has one user.
type Queue[T any] struct {
	queue   timerHeap[T]
	entries map[netip.Addr]*entry[T]
}

type entry[T any] struct {
	address netip.Addr
	due     T
	index   int // in the queue
}

// New returns an empty Agenda of times that compare orders.
func New[T any](compare func(a, b T) int) *Queue[T] {
	return &Queue[T]{queue: timerHeap[T]{compare: compare}, entries: map[netip.Addr]*entry[T]{}}
}

// Set makes address due at a time, in place of any other.
func (a *Queue[T]) Set(address netip.Addr, due T) {
	if e := a.entries[address]; e != nil {
		e.due = due
		heap.Fix(&a.queue, e.index)
		return
	}
	e := &entry[T]{address: address, due: due}
	a.entries[address] = e
	heap.Push(&a.queue, e)
}

// Delete makes address due at no time.
func (a *Queue[T]) Delete(address netip.Addr) {
	if e := a.entries[address]; e != nil {
		heap.Remove(&a.queue, e.index)
		delete(a.entries, address)
	}
}

// Has reports whether address is due at any time.
func (a *Queue[T]) Has(address netip.Addr) bool { return a.entries[address] != nil }

// Next returns the earliest time, or false if there is none.
func (a *Queue[T]) Next() (due T, ok bool) {
	if len(a.queue.heap) == 0 {
		return due, false
	}
	return a.queue.heap[0].due, true
}

// Take removes all addresses that are due at now or before, and returns them, the earliest
// first.
func (a *Queue[T]) Take(now T) []netip.Addr { return a.TakeUpTo(math.MaxInt, now) }

// TakeUpTo is Take of at most so many.
func (a *Queue[T]) TakeUpTo(most int, now T) []netip.Addr {
	var out []netip.Addr
	for len(out) < most && len(a.queue.heap) > 0 && a.queue.compare(a.queue.heap[0].due, now) <= 0 {
		e := heap.Pop(&a.queue).(*entry[T])
		delete(a.entries, e.address)
		out = append(out, e.address)
	}
	return out
}

// timerHeap is a heap.Interface, the earliest first.
type timerHeap[T any] struct {
	compare func(a, b T) int
	heap    []*entry[T]
}

func (q *timerHeap[T]) Len() int           { return len(q.heap) }
func (q *timerHeap[T]) Less(i, j int) bool { return q.compare(q.heap[i].due, q.heap[j].due) < 0 }

func (q *timerHeap[T]) Swap(i, j int) {
	q.heap[i], q.heap[j] = q.heap[j], q.heap[i]
	q.heap[i].index, q.heap[j].index = i, j
}

func (q *timerHeap[T]) Push(x any) {
	e := x.(*entry[T])
	e.index = len(q.heap)
	q.heap = append(q.heap, e)
}

func (q *timerHeap[T]) Pop() any {
	last := len(q.heap) - 1
	e := q.heap[last]
	q.heap[last] = nil
	q.heap = q.heap[:last]
	return e
}
