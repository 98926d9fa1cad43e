package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whoever was answered is asked no more, and of the others each in its turn.
func TestAskerTakesTurns(t *testing.T) {
	var a asker
	require.Empty(t, a.turn())
	var all []*target
	for i := range 2*asksAtOnce + 1 {
		all = append(all, a.add(netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(i))))
	}
	asked := map[*target]int{}
	for range 3 {
		for _, target := range a.turn() {
			asked[target]++
		}
	}
	require.Len(t, asked, len(all))
	a.answered(all[3], time.Unix(9, 0))
	a.answered(all[3], time.Unix(10, 0))
	at, err := all[3].wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, time.Unix(9, 0), at, "the first answer counts")
	for range 3 {
		require.NotContains(t, a.turn(), all[3])
	}
}
