package plan

import "time"

// Pacing is how a node announces addresses to its network unasked, by gratuitous ARP and
// unsolicited neighbour advertisements. The zero value is DefaultPacing.
type Pacing struct {
	// Burst is how many frames leave the node unasked within an Interval, probes included. The
	// first announcement of an address that the node begins to answer for is never held back,
	// and counts.
	Burst int
	// Interval is the time between two rounds of announcements of an address, and Repeat how
	// many rounds there are when the node begins to answer for it.
	Interval time.Duration
	Repeat   int
	// Refresh is the time between two announcements after that.
	Refresh time.Duration
}

// DefaultPacing is what a node does without a word about it. Interval is longer than the second
// for which Linux hosts ignore further announcements of an address (locktime), and Refresh
// shorter than the 300 s after which switches forget.
func DefaultPacing() Pacing {
	return Pacing{Burst: 100, Interval: 1100 * time.Millisecond, Repeat: 5, Refresh: time.Minute}
}

// OrDefault returns p, or DefaultPacing for the zero value.
func (p Pacing) OrDefault() Pacing {
	if p == (Pacing{}) {
		return DefaultPacing()
	}
	return p
}
