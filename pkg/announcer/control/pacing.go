package control

import (
	"fmt"
	"time"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Bounds of a Pacing; the cloud-config has narrower ones.
const (
	maxBurst      = 1 << 16
	maxRepeat     = 1 << 10
	minPacingTime = 10 * time.Millisecond
	maxPacingTime = 24 * time.Hour
)

// encodePacing encodes p; the zero value is an empty message.
func encodePacing(p plan.Pacing) *pb.Pacing {
	return &pb.Pacing{
		Burst: uint32(p.Burst), IntervalMs: uint64(p.Interval / time.Millisecond), //nolint:gosec // never negative
		Repeat: uint32(p.Repeat), RefreshMs: uint64(p.Refresh / time.Millisecond), //nolint:gosec // never negative
	}
}

// decodePacing takes all values or none.
func decodePacing(p *pb.Pacing) (plan.Pacing, error) {
	burst, repeat, interval, refresh := p.GetBurst(), p.GetRepeat(), p.GetIntervalMs(), p.GetRefreshMs()
	if burst == 0 && repeat == 0 && interval == 0 && refresh == 0 {
		return plan.Pacing{}, nil
	}
	switch {
	case burst == 0 || burst > maxBurst:
		return plan.Pacing{}, fmt.Errorf("plan: pacing: burst of %d; it is 1 to %d", burst, maxBurst)
	case repeat == 0 || repeat > maxRepeat:
		return plan.Pacing{}, fmt.Errorf("plan: pacing: repeat of %d; it is 1 to %d", repeat, maxRepeat)
	case min(interval, refresh) < uint64(minPacingTime/time.Millisecond) || max(interval, refresh) > uint64(maxPacingTime/time.Millisecond):
		return plan.Pacing{}, fmt.Errorf("plan: pacing: interval of %d ms, refresh of %d ms; each is %s to %s", interval, refresh, minPacingTime, maxPacingTime)
	}
	return plan.Pacing{
		Burst: int(burst), Interval: time.Duration(interval) * time.Millisecond,
		Repeat: int(repeat), Refresh: time.Duration(refresh) * time.Millisecond,
	}, nil
}
