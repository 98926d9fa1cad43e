package announcer

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/internal/timerqueue"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// slack is how much earlier a periodic announcement may go out to share a wake-up.
	slack = time.Second
	// sendAgain is after how long a first announcement is tried again for which there was no room.
	sendAgain = 50 * time.Millisecond
)

// schedule knows when to announce which address unasked. It is pure.
type schedule struct {
	pacing plan.Pacing
	// firsts has the addresses that are announced at once, bursts those that are announced
	// again in quick succession, and periods the others.
	firsts, bursts, periods *timerqueue.Queue[time.Time]
	// left is how many announcements of a burst are still to come, and last when the last one went.
	left map[netip.Addr]int
	last map[netip.Addr]time.Time
}

func newSchedule() schedule {
	empty := func() *timerqueue.Queue[time.Time] { return timerqueue.New(time.Time.Compare) }
	return schedule{pacing: plan.DefaultPacing(), firsts: empty(), bursts: empty(), periods: empty(), left: map[netip.Addr]int{}, last: map[netip.Addr]time.Time{}}
}

// startBurst begins a burst at now, also where one is under way. Its first announcement does not wait
// for anything.
func (s schedule) startBurst(address netip.Addr, now time.Time) {
	s.stopAddress(address)
	s.firsts.Set(address, now)
	s.left[address] = s.pacing.Repeat
}

// renewBurst makes a burst follow. Its first announcement does not wait for others. Where a burst is under
// way it waits until Interval has passed since the last one: no address is announced more often than in a
// burst, however often this is called.
func (s schedule) renewBurst(address netip.Addr, now time.Time) {
	at := now
	if last := s.last[address]; s.left[address] > 0 && !now.Before(last) {
		at = laterTime(now, last.Add(s.pacing.Interval))
	}
	if !s.firsts.Has(address) {
		s.bursts.Delete(address)
		s.periods.Delete(address)
		s.firsts.Set(address, at)
	}
	s.left[address] = s.pacing.Repeat
}

// putOff schedules an announcement soon for addresses whose first announcement could not leave.
func (s schedule) putOff(now time.Time, addresses []netip.Addr) {
	for _, address := range addresses {
		if s.firsts.Has(address) {
			continue // It could not leave on several interfaces.
		}
		s.bursts.Delete(address)
		s.periods.Delete(address)
		delete(s.last, address)
		s.firsts.Set(address, now.Add(sendAgain))
		s.left[address]++
	}
}

// repeatBurst begins a burst at now, also where one is under way, as far as others leave room. A first
// announcement that is due still does not wait for that.
func (s schedule) repeatBurst(address netip.Addr, now time.Time) {
	if s.firsts.Has(address) {
		return
	}
	s.periods.Delete(address)
	s.bursts.Set(address, now)
	s.left[address] = s.pacing.Repeat
}

// announceOnce schedules an announcement of address now, as far as others leave room, beside those
// that are due later.
func (s schedule) announceOnce(address netip.Addr, now time.Time) {
	if s.left[address] == 0 {
		s.periods.Delete(address)
		s.left[address] = 1
	}
	s.bursts.Set(address, now)
}

// stopAddress ends announcements of address.
func (s schedule) stopAddress(address netip.Addr) {
	s.firsts.Delete(address)
	s.bursts.Delete(address)
	s.periods.Delete(address)
	delete(s.left, address)
	delete(s.last, address)
}

// takeFirst returns addresses to announce now that do not wait for anything, sorted, at most so
// many, and counts them as announced. The others stay due.
func (s schedule) takeFirst(now time.Time, most int) []netip.Addr {
	due := s.firsts.TakeUpTo(most, now)
	s.markAnnounced(now, due)
	slices.SortFunc(due, netip.Addr.Compare)
	return due
}

// takeRepeats does the same with those that are announced again.
func (s schedule) takeRepeats(now time.Time, most int) []netip.Addr {
	if next := s.nextRepeat(); most <= 0 || next.IsZero() || next.After(now) {
		return nil
	}
	due := s.bursts.TakeUpTo(most, now)
	s.markAnnounced(now, due)
	for _, address := range s.periods.TakeUpTo(most-len(due), now.Add(slack)) {
		s.last[address] = now
		s.periods.Set(address, now.Add(s.pacing.Refresh))
		due = append(due, address)
	}
	slices.SortFunc(due, netip.Addr.Compare)
	return due
}

// markAnnounced has what follows an announcement in a burst come when its time is.
func (s schedule) markAnnounced(now time.Time, addresses []netip.Addr) {
	for _, address := range addresses {
		s.last[address] = now
		if s.left[address]--; s.left[address] > 0 {
			s.bursts.Set(address, now.Add(s.pacing.Interval))
		} else {
			s.periods.Set(address, now.Add(s.pacing.Refresh/2+s.spreadOf(address)))
		}
	}
}

// spreadOf returns a time below half of Refresh that depends on the address alone, so that a
// thousand addresses that were claimed at once are not announced at once ever after.
func (s schedule) spreadOf(address netip.Addr) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write(address.AsSlice()) // Never fails.
	return time.Duration(h.Sum32()) % (s.pacing.Refresh / 2)
}

// nextDue returns when something is due, or the zero time.
func (s schedule) nextDue() time.Time {
	first, _ := s.firsts.Next()
	return earlierTime(first, s.nextRepeat())
}

// nextRepeat returns when something is due that waits for room, or the zero time.
func (s schedule) nextRepeat() time.Time {
	first, _ := s.bursts.Next()
	second, _ := s.periods.Next()
	return earlierTime(first, second)
}
