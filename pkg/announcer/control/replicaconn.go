package control

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
)

// replicaConn keeps a stream to one address of a replica.
type replicaConn struct {
	client  *Client
	ctx     context.Context
	stop    context.CancelFunc
	address string
	up      atomic.Bool

	onceLogger onceLogger
	replica    string // the replica last met here
}

func newReplicaConn(ctx context.Context, c *Client, address netip.AddrPort) *replicaConn {
	ctx, cancel := context.WithCancel(ctx)
	return &replicaConn{
		client: c, ctx: ctx, stop: cancel, address: address.String(), onceLogger: onceLogger{logger: c.log},
	}
}

// runUntilStopped dials until it is stopped.
func (f *replicaConn) runUntilStopped() {
	defer f.stop()
	for failures := 1; f.ctx.Err() == nil; failures++ {
		f.client.replicas.awaitReplica(f.ctx, f.replica, f.address)
		began := time.Now()
		err := f.attemptStream()
		if f.ctx.Err() != nil {
			return
		}
		if _, wasUp := errors.AsType[*endedError](err); wasUp && time.Since(began) > steadyAfter {
			failures = 1
		}
		f.logCause(err)
		f.client.streamFailed()
		if !sleepFor(f.ctx, backoffPause(failures, pauseLimit(err), f.client.random())) {
			return
		}
	}
}

// logCause logs why there is no stream.
func (f *replicaConn) logCause(err error) {
	if e, ok := errors.AsType[*streamError](err); ok && e.code == codes.Aborted {
		// By another address of the same replica, or by a newer Pod on this node.
		f.client.log.Debug("stream taken over by a newer one", "replica", f.address)
		return
	}
	attrs := []any{"replica", f.address}
	if text := errorHint(err); text != "" {
		attrs = append(attrs, "hint", text)
	}
	f.onceLogger.logOnce("no stream to baremetal-ccm; trying again", err, attrs...)
}

// endedError is the end of a stream that was up.
type endedError struct{ err error }

func (e *endedError) Error() string { return e.err.Error() }

func (e *endedError) Unwrap() error { return e.err }
