package ipam

import (
	"container/list"
	"net/netip"
	"time"
)

// freelist is the addresses of one family in one pool. It knows which have never been
// used and which were freed when; it costs no memory for addresses that were never
// touched, and finding a free one costs the same however full it is.
type freelist struct {
	ranges []Range
	// held is how many of the addresses a Service holds.
	held int
	// index and next are the cursor of the addresses never used. next is invalid once
	// they ran out.
	index int
	next  netip.Addr
	// freed holds freedAddr, least recently freed first; where finds an element in it.
	freed *list.List
	where map[netip.Addr]*list.Element
	// parked are addresses that came up while something kept them from being given
	// out; unpark returns them.
	parked map[netip.Addr]time.Time
}

// remembered is how many freed addresses a space keeps in mind before it reuses those
// that have rested ahead of ones never used: a /64 must not fill the memory with all the
// addresses that it ever gave out.
const remembered = 1 << 16

type freedAddr struct {
	address netip.Addr
	at      time.Time
}

// freedBefore orders by time, and by address what was never used.
func (f freedAddr) freedBefore(a netip.Addr, at time.Time) bool {
	return f.at.Before(at) || f.at.Equal(at) && f.address.Less(a)
}

func newFreelist(ranges []Range) *freelist {
	s := &freelist{ranges: ranges, freed: list.New(), where: map[netip.Addr]*list.Element{}, parked: map[netip.Addr]time.Time{}}
	if len(ranges) > 0 {
		s.next = ranges[0].First
	}
	return s
}

// verdict is what the allocator says of an address that a space proposes.
type verdict int

const (
	usable verdict = iota
	// taken: held, or never to be given out; it comes back by free.
	taken
	// blocked: not now; it comes back by unpark.
	blocked
)

// nextFree returns the address to give out next: one never used, else the least recently
// freed. Where rested is not zero, addresses freed after it do not count. The address
// stays in the space until taken is called.
func (s *freelist) nextFree(rested time.Time, judge func(netip.Addr) verdict) (netip.Addr, bool) {
	if s.freed.Len() >= remembered {
		if a, ok := s.leastRecent(rested, judge); ok {
			return a, true
		}
	}
	for s.next.IsValid() {
		a := s.next
		if _, known := s.where[a]; !known {
			switch judge(a) {
			case usable:
				return a, true
			case blocked:
				s.parked[a] = time.Time{}
			}
		}
		s.advanceNext()
	}
	return s.leastRecent(rested, judge)
}

// leastRecent returns the usable address that was freed first, no later than rested.
func (s *freelist) leastRecent(rested time.Time, judge func(netip.Addr) verdict) (netip.Addr, bool) {
	for e := s.freed.Front(); e != nil; e = s.freed.Front() {
		f := e.Value.(freedAddr)
		if !rested.IsZero() && f.at.After(rested) {
			return netip.Addr{}, false
		}
		switch judge(f.address) {
		case usable:
			return f.address, true
		case blocked:
			s.parked[f.address] = f.at
		}
		s.dropAddress(f.address)
	}
	return netip.Addr{}, false
}

func (s *freelist) advanceNext() {
	if s.next != s.ranges[s.index].Last {
		s.next = s.next.Next()
		return
	}
	s.index++
	s.next = netip.Addr{}
	if s.index < len(s.ranges) {
		s.next = s.ranges[s.index].First
	}
}

// takeAddress removes a from what can be given out.
func (s *freelist) takeAddress(a netip.Addr) {
	s.dropAddress(a)
	delete(s.parked, a)
	if a == s.next {
		s.advanceNext()
	}
}

// freeAddress adds a, last held at that time, to what can be given out.
func (s *freelist) freeAddress(a netip.Addr, at time.Time) {
	s.dropAddress(a)
	s.where[a] = s.freed.PushBack(freedAddr{a, at})
}

// unparkAddress makes a available again after what blocked it has ended: where it was among those
// that were freed, and before them if it was never used.
func (s *freelist) unparkAddress(a netip.Addr) {
	at, ok := s.parked[a]
	if !ok {
		return
	}
	delete(s.parked, a)
	e := s.freed.Front()
	for e != nil && e.Value.(freedAddr).freedBefore(a, at) {
		e = e.Next()
	}
	if e == nil {
		s.where[a] = s.freed.PushBack(freedAddr{a, at})
		return
	}
	s.where[a] = s.freed.InsertBefore(freedAddr{a, at}, e)
}

func (s *freelist) dropAddress(a netip.Addr) {
	if e, ok := s.where[a]; ok {
		s.freed.Remove(e)
		delete(s.where, a)
	}
}
