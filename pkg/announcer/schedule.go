package announcer

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/internal/agenda"
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
	// bursts has the addresses that are announced in quick succession, and periods the
	// others.
	bursts, periods *agenda.Agenda[time.Time]
	// left is how many announcements of a burst are still to come.
	left map[netip.Addr]int
}

func newSchedule() schedule {
	return schedule{bursts: agenda.New(time.Time.Compare), periods: agenda.New(time.Time.Compare), left: map[netip.Addr]int{}}
}

// start begins a burst at now, also where one is under way.
func (s schedule) start(address netip.Addr, now time.Time) {
	s.periods.Delete(address)
	s.bursts.Set(address, now)
	s.left[address] = burst
}

// renew has a burst follow now. One that is under way begins anew with its next announcement,
// so that no address is announced more often than in a burst, however often this is called.
func (s schedule) renew(address netip.Addr, now time.Time) {
	if s.left[address] == 0 {
		s.start(address, now)
		return
	}
	s.left[address] = burst
}

// stop ends announcements of address.
func (s schedule) stop(address netip.Addr) {
	s.bursts.Delete(address)
	s.periods.Delete(address)
	delete(s.left, address)
}

// take returns addresses to announce now, sorted, at most so many, and counts them as
// announced. The others stay due.
func (s schedule) take(now time.Time, most int) []netip.Addr {
	if next := s.next(); next.IsZero() || next.After(now) {
		return nil
	}
	due := s.bursts.TakeUpTo(most, now)
	for _, address := range due {
		if s.left[address]--; s.left[address] > 0 {
			s.bursts.Set(address, now.Add(burstInterval))
		} else {
			s.periods.Set(address, now.Add(period/2+spread(address)))
		}
	}
	for _, address := range s.periods.TakeUpTo(most-len(due), now.Add(slack)) {
		s.periods.Set(address, now.Add(period))
		due = append(due, address)
	}
	slices.SortFunc(due, netip.Addr.Compare)
	return due
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
	first, _ := s.bursts.Next()
	second, _ := s.periods.Next()
	return earlier(first, second)
}
