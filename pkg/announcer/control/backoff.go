package control

import "time"

// Pauses between attempts at one replica. After a refusal that repeats itself until an
// administrator changes something, the next attempt comes later.
const (
	backoffMin     = 100 * time.Millisecond
	backoffMax     = 5 * time.Second
	backoffRefused = 15 * time.Second
	// steadyAfter is how long a stream lasts before its end counts as a fresh trouble.
	steadyAfter = 5 * time.Second
)

// backoffPause is the pause after the given number of failures in a row, at least 1: it doubles
// from backoffMin to limit, and random in [0, 1) spreads it over its upper half, so that
// the nodes of a cluster do not come back in step.
func backoffPause(failures int, limit time.Duration, random float64) time.Duration {
	pause := backoffMin
	for i := 1; i < failures && pause < limit; i++ {
		pause *= 2
	}
	pause = min(pause, limit)
	return pause/2 + time.Duration(random*float64(pause/2))
}
