package ratelimit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBucket(t *testing.T) {
	var b Bucket
	l, now := Limit{Rate: 2, Burst: 3}, time.Unix(1000, 0)
	for range 3 {
		require.True(t, b.Take(l, now))
	}
	require.False(t, b.Take(l, now))
	require.Equal(t, 500*time.Millisecond, b.Wait(l, now))
	require.True(t, b.Take(l, now.Add(500*time.Millisecond)))
	require.False(t, b.Take(l, now), "a clock that goes back gives nothing")
	b.Refund()
	require.True(t, b.Take(l, now))
	require.Zero(t, b.Wait(l, now.Add(time.Hour)))
	now = now.Add(time.Hour)
	require.Zero(t, b.Spend(l, now, 3))
	require.Equal(t, 2*time.Second, b.Spend(l, now, 4))
}

// TestKeyedIsBounded: a flood of keys makes room neither for itself nor in memory.
func TestKeyedIsBounded(t *testing.T) {
	k, now := Keyed[int]{Limit: Limit{Rate: 1, Burst: 1}, Size: 10}, time.Unix(1000, 0)
	for key := range 1000 {
		require.Equal(t, key < 10, k.Take(key, now))
	}
	require.Equal(t, 10, k.Len())
	require.False(t, k.Take(3, now))
	k.Refund(3)
	require.True(t, k.Take(3, now))
	require.True(t, k.Take(1001, now.Add(2*time.Second)), "idle keys are forgotten")
	require.Equal(t, 1, k.Len())
}
