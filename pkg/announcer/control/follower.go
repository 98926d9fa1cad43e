package control

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
)

// follower keeps a stream to one address of a replica.
type follower struct {
	client  *Client
	ctx     context.Context
	stop    context.CancelFunc
	address string
	up      atomic.Bool

	trouble trouble
	replica string // the replica last met here
}

func newFollower(ctx context.Context, c *Client, address netip.AddrPort) *follower {
	ctx, cancel := context.WithCancel(ctx)
	return &follower{
		client: c, ctx: ctx, stop: cancel, address: address.String(), trouble: trouble{logger: c.log},
	}
}

// run dials until it is stopped.
func (f *follower) run() {
	defer f.stop()
	for failures := 1; f.ctx.Err() == nil; failures++ {
		f.client.doors.await(f.ctx, f.replica, f.address)
		began := time.Now()
		err := f.attempt()
		if f.ctx.Err() != nil {
			return
		}
		if _, wasUp := errors.AsType[*endedError](err); wasUp && time.Since(began) > steadyAfter {
			failures = 1
		}
		f.explain(err)
		f.client.streamFailed()
		if !sleep(f.ctx, backoff(failures, pauseLimit(err), f.client.random())) {
			return
		}
	}
}

// explain logs why there is no stream.
func (f *follower) explain(err error) {
	if e, ok := errors.AsType[*streamError](err); ok && e.code == codes.Aborted {
		// By another address of the same replica, or by a newer Pod on this node.
		f.client.log.Debug("stream taken over by a newer one", "replica", f.address)
		return
	}
	attrs := []any{"replica", f.address}
	if text := hint(err); text != "" {
		attrs = append(attrs, "hint", text)
	}
	f.trouble.report("no stream to baremetal-ccm; trying again", err, attrs...)
}

// endedError is the end of a stream that was up.
type endedError struct{ err error }

func (e *endedError) Error() string { return e.err.Error() }

func (e *endedError) Unwrap() error { return e.err }
