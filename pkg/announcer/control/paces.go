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

// paces bounds how often streams begin, admitted before or not: one connection may open them
// one after the other without end.
type paces struct {
	mu        sync.Mutex
	nodes     ratelimit.Keyed[string]
	strangers ratelimit.Keyed[netip.Addr]
}

// newPaces takes how often the streams of a stranger's address begin.
func newPaces(source ratelimit.Limit) *paces {
	return &paces{
		nodes:     ratelimit.Keyed[string]{Limit: nodeStreamLimit(), Size: maxSources},
		strangers: ratelimit.Keyed[netip.Addr]{Limit: source, Size: maxSources},
	}
}

// enter returns nil if one more stream may begin, and else waits before it returns why not.
// node is "" where source is not an address of the Node that the stream names.
func (p *paces) enter(ctx context.Context, node string, source netip.Addr) error {
	if p.take(node, source, time.Now()) {
		return nil
	}
	sleep(ctx, streamPause)
	return refuse(CauseBusy, codes.ResourceExhausted, errTooManyStreams)
}

func (p *paces) take(node string, source netip.Addr, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if node != "" {
		return p.nodes.Take(node, now)
	}
	return p.strangers.Take(source, now)
}
