package observer

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// beat is the time between two beats of a heart.
	beat = 5 * time.Millisecond
	// late is by how much a beat may be late without being a stall.
	late = 10 * time.Millisecond
)

// heartbeats runs one thread on each processor that wants to run every few milliseconds,
// and tells of the times when it was not let, until ctx ends.
func heartbeats(ctx context.Context, stalled func(Stall)) error {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("find the processors: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for cpu, left := 0, allowed.Count(); left > 0; cpu++ {
		if !allowed.IsSet(cpu) {
			continue
		}
		left--
		group.Go(func() error { return heartbeat(ctx, cpu, stalled) })
	}
	return group.Wait()
}

func heartbeat(ctx context.Context, cpu int, stalled func(Stall)) error {
	// Never unlocked: the thread ends with the goroutine, for it belongs to one processor.
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind a thread to processor %d: %w", cpu, err)
	}
	pause := unix.NsecToTimespec(beat.Nanoseconds())
	for ctx.Err() == nil {
		due := time.Now().Add(beat)
		_ = unix.Nanosleep(&pause, nil)
		if now := time.Now(); now.Sub(due) > late {
			stalled(Stall{due, now})
		}
	}
	return nil
}
