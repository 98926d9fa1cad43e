package bfd

import (
	"container/heap"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

// queue has sessions in the order in which they are due.
type queue struct{ order }

func (q *queue) addSession(s *session)    { heap.Push(&q.order, s) }
func (q *queue) removeSession(s *session) { heap.Remove(&q.order, s.place) }
func (q *queue) fixSession(s *session)    { heap.Fix(&q.order, s.place) }

// nextDue returns when the first session is due.
func (q *queue) nextDue() time.Duration {
	if len(q.order) == 0 {
		return protocol.Never
	}
	return q.order[0].machine.Wake()
}

// firstDue returns the first session if it is due at now, or nil.
func (q *queue) firstDue(now time.Duration) *session {
	if q.nextDue() > now {
		return nil
	}
	return q.order[0]
}

// order is the heap.
type order []*session

func (o order) Len() int           { return len(o) }
func (o order) Less(i, j int) bool { return o[i].machine.Wake() < o[j].machine.Wake() }
func (o order) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].place, o[j].place = i, j
}

func (o *order) Push(x any) {
	s := x.(*session)
	s.place = len(*o)
	*o = append(*o, s)
}

func (o *order) Pop() any {
	last := len(*o) - 1
	s := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	return s
}
