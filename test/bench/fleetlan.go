package main

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// fleetLAN is the announcers of a fleet as far as they hear each other: at once. It is the
// rule of design §5 for nodes that are all well: who is first in the list claims, and who
// claimed before stops when it hears that, or when the list names it no more.
type fleetLAN struct {
	mu sync.Mutex
	// stations are by name; all are there from the start.
	stations map[string]*station
	// answering is who claims an address.
	answering map[netip.Addr]*station
	// arrivals are the plans that came since they were last taken.
	arrivals []arrival
	// last is when the last plan came.
	last time.Duration
}

// station is what one announcer knows and says.
type station struct {
	name       string
	interfaces []plan.Interface
	// say takes what the controllers are to be told.
	say    func(plan.Report)
	set    plan.NodePlan
	claims map[netip.Addr]plan.Version
}

// arrival is a plan that reached a node.
type arrival struct {
	node string
	at   time.Duration
	// owns are the addresses that the node is to answer for from now on and was not before.
	owns []netip.Addr
}

func newFleetLAN() *fleetLAN {
	return &fleetLAN{stations: map[string]*station{}, answering: map[netip.Addr]*station{}}
}

// add adds an announcer, which says at once that it claims nothing.
func (l *fleetLAN) add(name string, interfaces []plan.Interface, say func(plan.Report)) *station {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &station{name: name, interfaces: interfaces, say: say, claims: map[netip.Addr]plan.Version{}}
	l.stations[name] = s
	say(s.report())
	return s
}

// carryOut has s carry out a plan that came at a time.
func (l *fleetLAN) carryOut(s *station, set plan.NodePlan, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	came := arrival{node: s.name, at: at}
	s.set = set
	for address := range s.claims {
		if _, named := set.Assignments.Find(address); !named {
			l.end(s, address)
		}
	}
	for a := range set.Assignments.All() {
		if a.Candidates[0] != s.name {
			continue
		}
		if _, claimed := s.claims[a.Address]; !claimed {
			came.owns = append(came.owns, a.Address)
		}
		l.claim(s, a)
	}
	l.arrivals, l.last = append(l.arrivals, came), at
	s.say(s.report())
}

// claim has s answer for an address. Who did before hears it and stops.
func (l *fleetLAN) claim(s *station, a plan.Assignment) {
	if before := l.answering[a.Address]; before != nil && before != s {
		l.end(before, a.Address)
		before.say(before.report())
	}
	s.claims[a.Address], l.answering[a.Address] = a.Version, s
}

func (l *fleetLAN) end(s *station, address netip.Addr) {
	delete(s.claims, address)
	delete(l.answering, address)
}

func (s *station) report() plan.Report {
	report := plan.Report{Plan: s.set.Version, Highest: s.set.Version, Cluster: s.set.Cluster, Interfaces: s.interfaces}
	for address, stamp := range s.claims {
		report.Claims = report.Claims.With(plan.Claim{Address: address, Version: stamp})
	}
	return report
}

// planned is how many nodes have a plan, and answered how many addresses somebody answers
// for. last is when the last plan came.
func (l *fleetLAN) state() (planned, answered int, last time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.stations {
		if !s.set.Version.IsZero() {
			planned++
		}
	}
	return planned, len(l.answering), l.last
}

// candidates are the nodes that the list of address names, the one that answers first; none
// while nobody answers.
func (l *fleetLAN) candidates(address netip.Addr) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.answering[address]
	if s == nil {
		return nil
	}
	list, _ := s.set.Assignments.Find(address)
	return list.Candidates
}

// take returns the plans that came since it was last called, in their order.
func (l *fleetLAN) take() []arrival {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.arrivals
	l.arrivals = nil
	return out
}

// change is what one change of endpoints led to.
type change struct {
	// owner is how long it took until the new owner was told, and last until the last plan
	// of a node that is concerned, in milliseconds.
	owner, last float64
	// told is how many of those concerned got a plan, and others how many nodes beside them.
	told, others int
}

// judge finds out what a change at a time led to: before and after are the lists of the
// address, and came the plans since. Concerned is who is in either list.
func judge(address netip.Addr, at time.Duration, before, after []string, came []arrival) change {
	var c change
	told, others := map[string]bool{}, map[string]bool{}
	for _, a := range came {
		if !slices.Contains(before, a.node) && !slices.Contains(after, a.node) {
			others[a.node] = true
			continue
		}
		told[a.node] = true
		c.last = max(c.last, ms(a.at-at))
		if c.owner == 0 && slices.Contains(a.owns, address) {
			c.owner = ms(a.at - at)
		}
	}
	c.told, c.others = len(told), len(others)
	return c
}

// besides returns the names that are in none of the lists, sorted.
func (l *fleetLAN) besides(lists ...[]string) []string {
	concerned := slices.Concat(lists...)
	return slices.DeleteFunc(slices.Sorted(maps.Keys(l.stations)), func(name string) bool { return slices.Contains(concerned, name) })
}
