package announcer

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"time"
)

const (
	// burst is how many times a new claim is announced in quick succession, and
	// burstInterval the time between: longer than the second for which hosts ignore
	// further announcements of an address (Linux's locktime).
	burst         = 5
	burstInterval = 1100 * time.Millisecond
	// period is how often an address is announced after that, for as long as it is
	// claimed: switches forget after 300 s, as a rule.
	period = 60 * time.Second
	// slack is how much earlier a periodic announcement may go out to share a wake-up.
	slack = time.Second
)

// schedule knows when which address is to be announced unasked. It is pure.
type schedule struct {
	entries map[netip.Addr]entry
}

type entry struct {
	due time.Time
	// left is how many announcements of the burst are still to come.
	left int
}

func newSchedule() schedule { return schedule{entries: map[netip.Addr]entry{}} }

// start begins a burst at now, also where one is under way.
func (s schedule) start(address netip.Addr, now time.Time) {
	s.entries[address] = entry{due: now, left: burst}
}

// stop ends announcements of address.
func (s schedule) stop(address netip.Addr) { delete(s.entries, address) }

// take returns the addresses to announce now, sorted, and counts them as announced.
func (s schedule) take(now time.Time) []netip.Addr {
	if next := s.next(); next.IsZero() || next.After(now) {
		return nil
	}
	var due []netip.Addr
	for address, e := range s.entries {
		early := now
		if e.left == 0 {
			early = now.Add(slack)
		}
		if e.due.After(early) {
			continue
		}
		due = append(due, address)
		s.entries[address] = e.after(address, now)
	}
	slices.SortFunc(due, netip.Addr.Compare)
	return due
}

// after returns what follows an announcement at now.
func (e entry) after(address netip.Addr, now time.Time) entry {
	switch {
	case e.left > 1:
		return entry{due: now.Add(burstInterval), left: e.left - 1}
	case e.left == 1:
		return entry{due: now.Add(period/2 + spread(address))}
	default:
		return entry{due: now.Add(period)}
	}
}

// spread returns a time below half a period that depends on the address alone, so that a
// thousand addresses that were claimed at once are not announced at once ever after.
func spread(address netip.Addr) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write(address.AsSlice()) // Never fails.
	return time.Duration(h.Sum32()) % (period / 2)
}

// next returns when something is due, or the zero time.
func (s schedule) next() time.Time {
	var next time.Time
	for _, e := range s.entries {
		if next.IsZero() || e.due.Before(next) {
			next = e.due
		}
	}
	return next
}
