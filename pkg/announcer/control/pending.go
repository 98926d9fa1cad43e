package control

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"google.golang.org/grpc/codes"
)

// pending bounds the streams that are not admitted yet, and so what strangers can cost.
type pending struct {
	slots     chan struct{}
	perSource int

	mu      sync.Mutex
	sources map[netip.Addr]int
}

func newPending(total, perSource int) *pending {
	return &pending{slots: make(chan struct{}, total), perSource: perSource, sources: map[netip.Addr]int{}}
}

// enter waits for a slot. leave, which is never nil, gives it back.
func (p *pending) enter(ctx context.Context, source netip.Addr) (leave func(), err error) {
	if !p.count(source) {
		return func() {}, refuse(CauseBusy, codes.ResourceExhausted,
			fmt.Errorf("%d streams from %s await admission already", p.perSource, source))
	}
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots; p.uncount(source) }, nil
	case <-ctx.Done():
		p.uncount(source)
		return func() {}, refuse(CauseBusy, codes.Unavailable,
			fmt.Errorf("%d streams await admission already", cap(p.slots)))
	}
}

func (p *pending) count(source netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sources[source] >= p.perSource {
		return false
	}
	p.sources[source]++
	return true
}

func (p *pending) uncount(source netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sources[source]--; p.sources[source] == 0 {
		delete(p.sources, source)
	}
}

// len is the number of streams that await admission.
func (p *pending) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, count := range p.sources {
		n += count
	}
	return n
}
