package control

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"baremetal.cloud/ccm/internal/ratelimit"
)

// errTooManyStreams is why a stream is refused before it is looked at.
var errTooManyStreams = errors.New("too many streams begin there")

// streamLimiter bounds how often streams begin, admitted before or not: one connection may open them
// one after the other without end.
type streamLimiter struct {
	mu        sync.Mutex
	nodes     ratelimit.Keyed[string]
	strangers ratelimit.Keyed[netip.Addr]
}

// newStreamLimiter takes how often the streams of a stranger's address begin.
func newStreamLimiter(source ratelimit.Limit) *streamLimiter {
	return &streamLimiter{
		nodes:     ratelimit.Keyed[string]{Limit: nodeStreamLimit(), Size: maxSources},
		strangers: ratelimit.Keyed[netip.Addr]{Limit: source, Size: maxSources},
	}
}

// enterStream returns nil if one more stream may begin, and else waits before it returns why not.
// node is "" where source is not an address of the Node that the stream names.
func (p *streamLimiter) enterStream(ctx context.Context, node string, source netip.Addr) error {
	if p.takeTurn(node, source, time.Now()) {
		return nil
	}
	sleepFor(ctx, streamPause)
	return newRefusal(CauseBusy, codes.ResourceExhausted, errTooManyStreams)
}

func (p *streamLimiter) takeTurn(node string, source netip.Addr, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if node != "" {
		return p.nodes.Take(node, now)
	}
	return p.strangers.Take(source, now)
}
