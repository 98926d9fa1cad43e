package bfd

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestArrival: what the kernel says of when a datagram came counts within the time in which it
// can have come, so that nobody who sets the clock makes a peer silent or alive.
func TestArrival(t *testing.T) {
	empty := now() - time.Minute
	r := &receiver{empty: empty}
	require.InDelta(t, now()-time.Second, r.arrival(time.Now().Add(-time.Second)), float64(10*time.Second))
	require.Equal(t, empty, r.arrival(time.Now().Add(-time.Hour)), "set forward since")
	require.InDelta(t, now(), r.arrival(time.Now().Add(time.Hour)), float64(10*time.Second), "set back since")
	require.LessOrEqual(t, r.arrival(time.Now().Add(time.Hour)), now())
}
