package announcer

import (
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// probeFrames is how many frames it takes to ask for an address (package probe).
const probeFrames = 3

// frames counts what leaves the node unasked, so that switches that inspect ARP or limit
// broadcasts do not shut its port: no more than pacing.Burst within any pacing.Interval. What is
// sent all the same, because it must not wait, counts too. It is pure.
type frames struct {
	pacing plan.Pacing
	// sent are those of the last Interval, in order, and total is their number.
	sent  []sending
	total int
}

type sending struct {
	at time.Time
	n  int
}

func newFrames() frames { return frames{pacing: plan.DefaultPacing()} }

// roomFor returns how many may leave at now if reserved of them are for others.
func (f *frames) roomFor(now time.Time, reserved int) int {
	keep := 0
	for _, s := range f.sent {
		if s.at.After(now) || now.Sub(s.at) >= f.pacing.Interval { // The clock was set back, or it is over.
			f.total -= s.n
			continue
		}
		f.sent[keep] = s
		keep++
	}
	f.sent = f.sent[:keep]
	return max(0, f.pacing.Burst-f.total-reserved)
}

// spendFrames counts n frames that leave at now.
func (f *frames) spendFrames(now time.Time, n int) {
	if n <= 0 {
		return
	}
	f.total += n
	if last := len(f.sent) - 1; last >= 0 && f.sent[last].at.Equal(now) {
		f.sent[last].n += n
		return
	}
	f.sent = append(f.sent, sending{now, n})
}

// freeAt returns when n frames may leave if reserved of them are for others, or the zero time if
// they may at once. More than a burst never may: then it is when none still counts.
func (f *frames) freeAt(n, reserved int) time.Time {
	over := f.total + n + reserved - f.pacing.Burst
	at := time.Time{}
	for _, s := range f.sent {
		if over <= 0 {
			break
		}
		at = s.at.Add(f.pacing.Interval)
		over -= s.n
	}
	return at
}

// sentSince returns how many left after a time within the last Interval.
func (f *frames) sentSince(at time.Time) (n int) {
	for _, s := range f.sent {
		if s.at.After(at) {
			n += s.n
		}
	}
	return n
}

// lastSent returns when the last one left that counts still, or the zero time.
func (f *frames) lastSent() time.Time {
	if len(f.sent) == 0 {
		return time.Time{}
	}
	return f.sent[len(f.sent)-1].at
}

// reservedForProbes is how many frames announcements leave to probes that wait: a quarter of a burst, and
// at least one address.
func (f *frames) reservedForProbes() int { return max(probeFrames, f.pacing.Burst/4) }
