package loadbalancer

import "slices"

// sessions knows which node watches which: neighbours always do, and so do any two nodes
// that a list names both. No node watches more than limit.most others.
type sessions struct {
	limit limits
	// standing are the neighbours of each node, sorted; see neighbours.
	standing map[string][]string
	// lists counts, by node and node, the lists that name both.
	lists map[string]map[string]int
	// demanded counts, by node, those it shares lists with that are not its neighbours.
	demanded map[string]int
	// held are, by node that departs, those that it watches until it has.
	held map[string][]string
	// changed are the nodes that may watch others than they did.
	changed map[string]bool
	// freed reports whether a node may have room for another session that had none.
	freed bool
}

func newSessions() sessions {
	return sessions{
		limit:    limits{maxSessions, ringSessions},
		standing: map[string][]string{}, lists: map[string]map[string]int{},
		demanded: map[string]int{}, held: map[string][]string{}, changed: map[string]bool{},
	}
}

// setNeighbours takes over new neighbourhoods and returns the nodes that share lists with more
// others now than they may, sorted.
func (s *sessions) setNeighbours(standing map[string][]string) (over []string) {
	for name := range standing {
		if !slices.Equal(standing[name], s.standing[name]) {
			s.changed[name], s.freed = true, true
		}
	}
	for name := range s.standing {
		if _, ok := standing[name]; !ok {
			s.changed[name], s.freed = true, true
		}
	}
	s.standing, s.demanded = standing, map[string]int{}
	for x, others := range s.lists {
		for y := range others {
			if !s.areNeighbours(x, y) {
				s.demanded[x]++
			}
		}
		if s.demanded[x] > s.roomOf(x) {
			over = append(over, x)
		}
	}
	slices.Sort(over)
	return over
}

// areNeighbours reports whether x and y are neighbours.
func (s *sessions) areNeighbours(x, y string) bool {
	_, ok := slices.BinarySearch(s.standing[x], y)
	return ok
}

// roomOf is how many others than its neighbours a node may watch.
func (s *sessions) roomOf(x string) int { return s.limit.most - len(s.standing[x]) }

// joinList adds x to a list that names chosen, if each of them may watch it.
func (s *sessions) joinList(chosen []string, x string) bool {
	more := 0
	for _, y := range chosen {
		switch {
		case s.areNeighbours(x, y):
		case s.lists[x][y] > 0:
			if s.demanded[y] > s.roomOf(y) {
				return false
			}
		case s.demanded[y] >= s.roomOf(y):
			return false
		default:
			more++
		}
	}
	if s.demanded[x]+more > s.roomOf(x) {
		return false
	}
	for _, y := range chosen {
		s.countPair(x, y, 1)
		s.countPair(y, x, 1)
	}
	return true
}

// leaveList takes x out of a list that goes on naming rest.
func (s *sessions) leaveList(rest []string, x string) {
	for _, y := range rest {
		s.countPair(x, y, -1)
		s.countPair(y, x, -1)
	}
}

// dropList forgets a list.
func (s *sessions) dropList(list []string) {
	for i, x := range list {
		s.leaveList(list[i+1:], x)
	}
}

func (s *sessions) countPair(x, y string, by int) {
	if s.lists[x] == nil {
		s.lists[x] = map[string]int{}
	}
	before := s.lists[x][y]
	s.lists[x][y] = before + by
	if before+by == 0 {
		delete(s.lists[x], y)
	}
	if s.areNeighbours(x, y) || before > 0 && before+by > 0 {
		return
	}
	s.demanded[x] += by
}

// noteReplaced notes that the list that was old, which was dropped, is now one of nodes that
// were joined.
func (s *sessions) noteReplaced(old, now []string) {
	for _, x := range old {
		s.changed[x] = true
	}
	for _, x := range now {
		s.changed[x] = true
	}
	s.freed = s.freed || slices.ContainsFunc(old, func(x string) bool { return !slices.Contains(now, x) })
}

// watchedBy returns the nodes that x watches, sorted.
func (s *sessions) watchedBy(x string) []string {
	out := s.baseOf(x)
	if len(s.held) > 0 {
		out = append(out, s.heldBeside(x, out)...)
		slices.Sort(out)
	}
	return out
}

// baseOf returns the nodes that x watches as a neighbour or by a list, sorted.
func (s *sessions) baseOf(x string) []string {
	out := slices.Clone(s.standing[x])
	for y := range s.lists[x] {
		out = append(out, y)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
