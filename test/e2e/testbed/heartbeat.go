package testbed

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
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

// Stall is a time in which the machine did not run a thread that was due.
type Stall struct{ From, Until time.Time }

// Heartbeats runs one thread on each processor that wants to run every few milliseconds,
// and tells of the times when it was not let, until ctx ends. The function may be called
// from several goroutines.
func Heartbeats(ctx context.Context, stalled func(Stall)) error {
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

// Heartbeats is the function of that name among the processes of the testbed. They are a
// session of their own, and on most machines each session is given its share of the
// processors: others may run while none of these does.
func (c *Cluster) Heartbeats(ctx context.Context, stalled func(Stall)) error {
	response, err := send(ctx, c.layout.ID, "heartbeats", "")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		var from, until int64
		if _, err := fmt.Sscan(lines.Text(), &from, &until); err != nil {
			return fmt.Errorf("heartbeats: %w", err)
		}
		stalled(Stall{time.Unix(0, from), time.Unix(0, until)})
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("heartbeats of the testbed ended: %w", cmp.Or(lines.Err(), io.ErrUnexpectedEOF))
}

// beatFor writes stalls to whoever asks, a line each, until he goes away.
func beatFor(w http.ResponseWriter, r *http.Request) {
	flush := func() { _ = http.NewResponseController(w).Flush() }
	flush()
	var mu sync.Mutex
	_ = Heartbeats(r.Context(), func(s Stall) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(w, s.From.UnixNano(), s.Until.UnixNano())
		flush()
	})
}
