package bfd

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestArrival: what the kernel says of when a datagram came counts within the time in which it
// can have come, so that nobody who sets the clock makes a peer silent or alive.
func TestArrival(t *testing.T) {
	began, wall := now(), time.Now()
	empty := began - time.Minute
	r := &receiver{empty: empty}
	require.Equal(t, began-time.Second, r.arrivalTime(wall.Add(-time.Second), began, wall))
	require.Equal(t, empty, r.arrivalTime(wall.Add(-time.Hour), began, wall), "set forward since")
	r.waiting = []datagram{{at: r.arrivalTime(wall.Add(time.Hour), began, wall)}, {at: r.arrivalTime(wall.Add(time.Millisecond), began, wall)}}
	arrived := r.takeRead(began + time.Second)
	require.Equal(t, began+time.Second, arrived[0].at, "set back since")
	require.Equal(t, began+time.Millisecond, arrived[1].at, "it came while the socket was read")
}
