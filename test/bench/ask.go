package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
	"baremetal.cloud/ccm/test/e2e/testbed/tcp"
)

const (
	// askInterval is the time between two questions to the same target, where there are
	// few enough targets.
	askInterval = 5 * time.Millisecond
	// asksAtOnce is how many questions begin together. Of more targets than that each is
	// asked less often, whatever it is, so that asking does not take the whole machine.
	asksAtOnce = 20
	// askPatience ends a question that gets no answer; others begin meanwhile.
	askPatience = 500 * time.Millisecond
)

// asker asks targets over HTTP from the client host, each until the first byte of an
// answer came, and every time by a connection of its own.
type asker struct {
	mu sync.Mutex
	// pending are those without an answer, in turn. They are guarded by mu.
	pending []*target
	next    int
}

// target is an address and port to ask.
type target struct {
	at netip.AddrPort
	// done is closed when the first byte has come, at firstByte.
	done      chan struct{}
	firstByte time.Time
}

// add asks one more target from now on.
func (a *asker) add(at netip.AddrPort) *target {
	t := &target{at: at, done: make(chan struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending = append(a.pending, t)
	return t
}

// run asks until ctx ends. Its sockets belong to the namespace.
func (a *asker) run(ctx context.Context, namespace string) error {
	return netns.Do(namespace, func() error {
		ticker := time.NewTicker(askInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
			for _, t := range a.turn() {
				conn, err := tcp.Open(t.at)
				if err != nil {
					return err
				}
				go a.ask(ctx, conn, t)
			}
		}
	})
}

// turn returns the targets whose turn it is.
func (a *asker) turn() []*target {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := min(asksAtOnce, len(a.pending))
	out := make([]*target, 0, n)
	for range n {
		a.next = (a.next + 1) % len(a.pending)
		out = append(out, a.pending[a.next])
	}
	return out
}

// ask asks once.
func (a *asker) ask(ctx context.Context, conn *tcp.Conn, t *target) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	if conn.Connect(ctx) != nil {
		return
	}
	if _, err := conn.Get(ctx); err == nil {
		a.answered(t, time.Now())
	}
}

// answered takes note of a first byte.
func (a *asker) answered(t *target, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, p := range a.pending {
		if p == t {
			a.pending = append(a.pending[:i], a.pending[i+1:]...)
			t.firstByte = at
			close(t.done)
			return
		}
	}
}

// drop asks no target any more.
func (a *asker) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending = nil
}

// wait returns when the target answered first.
func (t *target) wait(ctx context.Context) (time.Time, error) {
	select {
	case <-t.done:
		return t.firstByte, nil
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("%s does not answer: %w", t.at, context.Cause(ctx))
	}
}

// asking runs an asker on the client host while f lasts.
func (l *lab) asking(ctx context.Context, f func(context.Context, *asker) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errWaitedTooLong)
	defer cancel()
	a := &asker{}
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- a.run(ctx, l.cluster.Layout().Client.NetNS)
	}()
	err := f(ctx, a)
	a.drop()
	cancel()
	if failed := <-ended; failed != nil {
		return failed
	}
	return err
}
