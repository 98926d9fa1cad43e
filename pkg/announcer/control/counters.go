package control

import (
	"maps"
	"sync"
)

// Counters is what a Server has done since NewServer and what it holds at the moment.
type Counters struct {
	// Pending streams have not been admitted yet; Silent ones have and were told no plan,
	// because this replica does not lead or the plan does not mention their node; Planned
	// ones were told one. Silent plus Planned is the number of connected nodes.
	Pending, Silent, Planned int
	// Refused counts streams refused or ended, by cause. Every Cause constant is present.
	Refused map[string]uint64
	// Superseded counts streams that gave way to a newer one of the same node.
	Superseded uint64
	// Snapshots and Deltas count the plans sent, PlanBytes their size.
	Snapshots, Deltas, PlanBytes uint64
	// Reports counts the reports received, those in Hello included, ReportBytes their size.
	Reports, ReportBytes uint64
}

// tally guards the part of Counters that only grows.
type tally struct {
	mu       sync.Mutex
	counters Counters
}

func newTally() *tally {
	refused := map[string]uint64{}
	for _, cause := range []string{
		CauseAudience, CauseServiceAccount, CauseNodeMismatch, CauseSourceAddress, CauseToken, CauseNoAnswer,
		CauseOlderPod, CauseProtocol, CauseMalformed, CauseOversized, CauseHelloTimeout, CauseBusy,
	} {
		refused[cause] = 0
	}
	return &tally{counters: Counters{Refused: refused}}
}

func (t *tally) addCount(count func(*Counters)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	count(&t.counters)
}

func (t *tally) readCounters() Counters {
	t.mu.Lock()
	defer t.mu.Unlock()
	counters := t.counters
	counters.Refused = maps.Clone(counters.Refused)
	return counters
}
