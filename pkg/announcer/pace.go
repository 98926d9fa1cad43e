package announcer

import "time"

const (
	// The least and the most that pace allows at a time.
	leastPace, mostPace = 32, 512
	// swift is how long a turn may take: well below the time after which peers take a node
	// for down that does not speak.
	swift = 30 * time.Millisecond
)

// pace is how many addresses the announcer thinks about before it listens to peers, and
// speaks to them, again. To think about very many, or about some on a machine that has
// better to do, can take longer than peers wait.
type pace int

// after returns the pace after a turn that took so long: half of it after a slow one.
func (p pace) after(took time.Duration) pace {
	if took > swift {
		return max(leastPace, p/2)
	}
	return min(mostPace, 2*p)
}

// portion is how many addresses the node begins to answer for, or announces: with each the
// kernel has to do.
func (p pace) portion() int { return int(p) / 8 }
