package control

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestFault_K1_9_PacingOnTheWire: a plan carries all of it or nothing, and nothing that a node
// could not live with.
func TestFault_K1_9_PacingOnTheWire(t *testing.T) {
	for _, p := range []plan.Pacing{{}, plan.DefaultPacing(), {Burst: 5, Interval: 100 * time.Millisecond, Repeat: 1, Refresh: time.Hour}} {
		got, err := decodePacing(encodePacing(p))
		require.NoError(t, err)
		require.Equal(t, p, got)
	}
	for want, p := range map[string]*pb.Pacing{
		"plan: pacing: burst of 0; it is 1 to 65536":                                                     {IntervalMs: 1000, Repeat: 1, RefreshMs: 1000},
		"plan: pacing: burst of 65537; it is 1 to 65536":                                                 {Burst: maxBurst + 1, IntervalMs: 1000, Repeat: 1, RefreshMs: 1000},
		"plan: pacing: repeat of 1025; it is 1 to 1024":                                                  {Burst: 1, IntervalMs: 1000, Repeat: maxRepeat + 1, RefreshMs: 1000},
		"plan: pacing: interval of 9 ms, refresh of 1000 ms; each is 10ms to 24h0m0s":                    {Burst: 1, IntervalMs: 9, Repeat: 1, RefreshMs: 1000},
		"plan: pacing: interval of 1000 ms, refresh of 18446744073709551615 ms; each is 10ms to 24h0m0s": {Burst: 1, IntervalMs: 1000, Repeat: 1, RefreshMs: 1<<64 - 1},
	} {
		_, err := decodePacing(p)
		require.EqualError(t, err, want)
	}
}
