package announcer

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// What a node does unless it is told otherwise.
var (
	burst         = plan.DefaultPacing().Repeat
	burstInterval = plan.DefaultPacing().Interval
	period        = plan.DefaultPacing().Refresh
)

// swiftly is for tests in which nothing is to wait for room on the LAN.
var swiftly = plan.Pacing{Burst: 1 << 20, Interval: burstInterval, Repeat: burst, Refresh: period}

// take takes what is due, sorted.
func (s schedule) take(now time.Time, most int) []netip.Addr {
	due := s.takeFirst(now, most)
	due = append(due, s.takeRepeats(now, most-len(due))...)
	slices.SortFunc(due, netip.Addr.Compare)
	return due
}

func TestScheduleOfOne(t *testing.T) {
	s := newSchedule()
	require.True(t, s.nextDue().IsZero())
	address := ip("192.0.2.200")
	s.startBurst(address, began)
	var times []time.Duration
	for len(times) < 8 {
		at := s.nextDue()
		require.Equal(t, []netip.Addr{address}, s.take(at, mostBatch))
		require.Empty(t, s.take(at, mostBatch), "once")
		times = append(times, at.Sub(began))
	}
	require.Equal(t, []time.Duration{0, 1100 * time.Millisecond, 2200 * time.Millisecond, 3300 * time.Millisecond, 4400 * time.Millisecond}, times[:5])
	require.GreaterOrEqual(t, times[5]-times[4], period/2)
	require.Less(t, times[5]-times[4], period)
	require.Equal(t, period, times[6]-times[5])
	require.Equal(t, period, times[7]-times[6])
	s.stopAddress(address)
	require.True(t, s.nextDue().IsZero())
}

// TestScheduleOfAThousand: claimed at once, each is announced within every period, never
// many of them together, and the process is woken at most about once a second.
func TestScheduleOfAThousand(t *testing.T) {
	s := newSchedule()
	const count = 1000
	for i := range count {
		s.startBurst(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), began)
	}
	now := began
	for range burst {
		now = s.nextDue()
		require.Len(t, s.take(now, count), count)
	}
	settled := now.Add(10 * period)
	last := map[netip.Addr]time.Time{}
	wakes, most := 0, 0
	for now.Before(settled.Add(2 * period)) {
		now = s.nextDue()
		due := s.take(now, count)
		require.NotEmpty(t, due)
		for _, address := range due {
			if before, ok := last[address]; ok {
				require.LessOrEqual(t, now.Sub(before), period)
			}
			last[address] = now
		}
		if now.After(settled) {
			wakes++
			most = max(most, len(due))
		}
	}
	require.Len(t, last, count)
	require.LessOrEqual(t, wakes, int(2*period/slack)+1)
	require.Less(t, most, count/4)
}

func TestLogHasFewLines(t *testing.T) {
	j := newLogAggregator()
	for i := range 1000 {
		j.addEvent(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), event{answering, "eth0"})
	}
	require.Equal(t, []line{{slog.LevelInfo, "answering for 1000 addresses on eth0 (plan 3.17): 10.0.0.0, 10.0.0.1, 10.0.0.2 and 997 more"}}, j.takeDue(began, "3.17"))
	require.True(t, j.nextDue().IsZero(), "nothing left")

	j.addEvent(ip("10.0.0.9"), event{stopped, "withdrawn"})
	require.Empty(t, j.takeDue(began.Add(logPause/2), "3.18"), "not twice a second")
	require.Equal(t, began.Add(logPause), j.nextDue())
	j.addEvent(ip("10.0.0.9"), event{answering, "eth1"})
	require.Equal(t, []line{{slog.LevelInfo, "answering for 10.0.0.9 on eth1 (plan 3.19)"}}, j.takeDue(began.Add(logPause), "3.19"), "the last word")
}

// TestFault_K1_1_LogIsBounded: however many reasons there are, they are few lines, and every
// address is counted.
func TestFault_K1_1_LogIsBounded(t *testing.T) {
	j := newLogAggregator()
	for i := range 3000 {
		address := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		j.addEvent(address, event{change(i % 4), address.String() + " is the address of node7"})
	}
	lines := j.takeDue(began, "3.17")
	require.LessOrEqual(t, len(lines), logLinesLimit+4)
	require.Equal(t, "answering for 750 addresses on several interfaces (plan 3.17): 10.0.0.3, 10.0.0.7, 10.0.0.11 and 747 more", lines[len(lines)-1].text)
}
