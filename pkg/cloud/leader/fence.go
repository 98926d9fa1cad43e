package leader

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// ErrFenced is returned, wrapped with the cause, for what only a leader may do while
// this replica cannot prove that it leads.
var ErrFenced = errors.New("refused by the leader fence")

// Fence says whether this replica may act as the leader right now.
type Fence struct {
	clock    func() time.Duration
	deadline time.Duration

	mu      sync.Mutex
	leading bool          // the Lease is ours as far as we know
	forever bool          // no election: nothing to renew
	renewed time.Duration // by clock, when the last successful renewal began
	opens   time.Duration // by clock, when it may open at the earliest
	acting  int           // writes that passed and have not been answered
	idle    chan struct{} // closed when acting drops to 0; nil while nothing waits
	opened  chan struct{} // closed at the next renewal; nil while nothing waits
}

func newFence(clock func() time.Duration, deadline time.Duration) *Fence {
	return &Fence{clock: clock, deadline: deadline}
}

// Err returns nil while this replica leads and began the last successful renewal of its
// Lease less than the renew deadline ago. Otherwise it is an ErrFenced with the cause.
func (f *Fence) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errLocked()
}

func (f *Fence) errLocked() error {
	if !f.leading {
		return fmt.Errorf("%w: this replica does not lead", ErrFenced)
	}
	if f.forever {
		return nil
	}
	if left := f.opens - f.clock(); left > 0 {
		return fmt.Errorf("%w: another replica may have led by a Lease that was deleted; leading in %v", ErrFenced, left.Round(time.Millisecond))
	}
	if age := f.clock() - f.renewed; age >= f.deadline {
		return fmt.Errorf("%w: the lease was last renewed %v ago, renew deadline %v",
			ErrFenced, age.Round(time.Millisecond), f.deadline)
	}
	return nil
}

// WaitOpen returns nil as soon as the fence is open, or the cause once ctx is done.
func (f *Fence) WaitOpen(ctx context.Context) error {
	for {
		f.mu.Lock()
		err, left := f.errLocked(), f.opens-f.clock()
		if err == nil {
			f.mu.Unlock()
			return nil
		}
		if f.opened == nil {
			f.opened = make(chan struct{})
		}
		opened := f.opened
		f.mu.Unlock()
		var due <-chan time.Time
		if left > 0 {
			due = time.After(left)
		}
		select {
		case <-opened:
		case <-due:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// age returns how old the last renewal is, and for ever while the Lease is not ours.
func (f *Fence) age() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.leading {
		return math.MaxInt64
	}
	return f.clock() - f.renewed
}

// startLeading reports whether the Lease is ours as far as is known.
func (f *Fence) startLeading() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leading
}

func (f *Fence) wakeLocked() {
	if f.opened != nil {
		close(f.opened)
		f.opened = nil
	}
}

// remaining returns for how long the fence stays open without a further renewal, and
// false if only close will end that. A closed fence has 0 left.
func (f *Fence) remaining() (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.leading:
		return 0, true
	case f.forever:
		return 0, false
	}
	return max(0, f.renewed+f.deadline-f.clock()), true
}

// renewUntil opens the fence for a renewal that began at start and succeeded.
func (f *Fence) renewUntil(start time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leading = true
	f.renewed = max(f.renewed, start)
	f.wakeLocked()
}

// waitForWrites keeps the fence closed until then, by its clock, whatever is renewed.
func (f *Fence) waitForWrites(until time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opens = until
}

// openFence opens the fence until it is closed.
func (f *Fence) openFence() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leading, f.forever = true, true
	f.wakeLocked()
}

// closeFence closes the fence until the next renewal.
func (f *Fence) closeFence() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leading, f.forever = false, false
}

// enterWrite lets one write pass if the fence is open. The caller calls leave when the write
// has been answered.
func (f *Fence) enterWrite() (leave func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.errLocked(); err != nil {
		return nil, err
	}
	f.acting++
	return f.leaveWrite, nil
}

func (f *Fence) leaveWrite() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acting--
	if f.acting == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

// drainWrites waits until every write that passed has been answered, or ctx is done. The
// fence must be closed, and one caller at a time may wait.
func (f *Fence) drainWrites(ctx context.Context) error {
	f.mu.Lock()
	if f.acting == 0 {
		f.mu.Unlock()
		return nil
	}
	idle := make(chan struct{})
	f.idle = idle
	f.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
