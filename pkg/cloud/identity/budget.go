package identity

import (
	"net/netip"
	"sync"
	"time"

	"baremetal.cloud/ccm/internal/ratelimit"
)

// budget bounds the questions to the API server that end in a refusal. A source address
// that had an accepted one draws on its own budget only, so that strangers cannot use up
// that of the nodes.
type budget struct {
	mu      sync.Mutex
	sources ratelimit.Keyed[netip.Addr]
	all     ratelimit.Bucket
	trusted map[netip.Addr]struct{}
}

func newBudget() *budget {
	return &budget{
		sources: ratelimit.Keyed[netip.Addr]{Limit: sourceLimit(), Size: sourcesKnown},
		trusted: map[netip.Addr]struct{}{},
	}
}

// take reports whether the API server may be asked about a token from source.
func (b *budget) take(source netip.Addr, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.trusted[source]; !ok && !b.all.Take(strangerLimit(), now) {
		return false
	}
	return b.sources.Take(source, now)
}

// accepted gives back what was taken for source, and trusts it from now on.
func (b *budget) accepted(source netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.trusted[source]; !ok {
		b.all.Refund()
	}
	b.sources.Refund(source)
	if len(b.trusted) >= sourcesKnown {
		clear(b.trusted)
	}
	b.trusted[source] = struct{}{}
}
