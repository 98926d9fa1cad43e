package failover

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFault_K4_4_ClaimWaitRunsOut: a peer that tells what it claims with some of its packets only has
// others wait for 2 s at first, and then for a second in half a minute, whatever it tells when.
func TestFault_K4_4_ClaimWaitRunsOut(t *testing.T) {
	const interval = 100 * time.Millisecond
	for _, tells := range []func(packet int) bool{
		func(int) bool { return false },
		func(n int) bool { return n%2 == 0 },
		func(n int) bool { return n%10 != 0 },
		func(n int) bool { return n%300 > 20 },
		func(n int) bool { return n%600 > 9 },
	} {
		p, since := claimWait{}, time.Hour
		var waits []time.Duration
		for n := range 6000 {
			now := since + time.Duration(n)*interval
			if tells(n) {
				p.stopWait(now)
				continue
			}
			if p.startWait(now); !p.over {
				waits = append(waits, now) // Until the next packet.
			}
		}
		require.LessOrEqual(t, len(within(waits, since+30*time.Second)), 30, "2 s, and 1 s regained")
		for n := range 19 {
			from := since + time.Duration(1+n)*30*time.Second
			require.LessOrEqual(t, len(within(waits, from+30*time.Second))-len(within(waits, from)), 20, "%d", n)
		}
		require.LessOrEqual(t, len(waits), 20+10*20+20, "in ten minutes")
	}
}

// within returns those of times that are before until.
func within(times []time.Duration, until time.Duration) []time.Duration {
	for i, at := range times {
		if at >= until {
			return times[:i]
		}
	}
	return times
}

// TestClaimWaitReturns: a peer that has told for long is waited for again, and one that was silent
// meanwhile.
func TestClaimWaitReturns(t *testing.T) {
	p, now := claimWait{}, time.Hour
	require.False(t, p.startWait(now))
	now += claimWaitLimit
	require.True(t, p.startWait(now))
	require.True(t, p.over)
	p.stopWait(now)
	p.startWait(now + time.Second)
	require.True(t, p.over, "it has told for a second only")
	p.stopWait(now + time.Second)
	now += time.Minute
	require.False(t, p.startWait(now))
	require.False(t, p.over)
	require.False(t, p.startWait(now+claimWaitLimit-time.Millisecond))
	require.True(t, p.startWait(now+claimWaitLimit))
}
