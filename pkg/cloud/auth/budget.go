package auth

import (
	"net/netip"
	"sync"
	"time"

	"baremetal.cloud/ccm/internal/ratelimit"
)

// sourcesKnown bounds the nodes, and the other addresses, of which questions are remembered.
const sourcesKnown = 8192

// nodeLimit is how often questions for one Node, from an address of its own, may end in a
// refusal: its announcer asks less often. sourceLimit is the same for one other address,
// and strangerLimit for all of those together. What is accepted costs nothing.
func nodeLimit() ratelimit.Limit     { return ratelimit.Limit{Rate: 0.5, Burst: 8} }
func sourceLimit() ratelimit.Limit   { return ratelimit.Limit{Rate: 0.5, Burst: 32} }
func strangerLimit() ratelimit.Limit { return ratelimit.Limit{Rate: 5, Burst: 128} }

// payer is the account that a question is charged to: that of a Node, for what names it and comes
// from one of its addresses, else that of a source address. So neither strangers nor another
// node behind the same address use up what a node may ask.
type payer struct {
	node   string
	source netip.Addr
}

// budget bounds the questions to the API server that end in a refusal.
type budget struct {
	mu        sync.Mutex
	nodes     ratelimit.Keyed[string]
	sources   ratelimit.Keyed[netip.Addr]
	strangers ratelimit.Bucket // of all sources together
}

func newBudget() *budget {
	return &budget{
		nodes:   ratelimit.Keyed[string]{Limit: nodeLimit(), Size: sourcesKnown},
		sources: ratelimit.Keyed[netip.Addr]{Limit: sourceLimit(), Size: sourcesKnown},
	}
}

// takeQuestion reports whether the API server may be asked on p's account.
func (b *budget) takeQuestion(p payer, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.node != "" {
		return b.nodes.Take(p.node, now)
	}
	return b.sources.Take(p.source, now) && b.strangers.Take(strangerLimit(), now)
}

// refundQuestion gives back what was taken on p's account.
func (b *budget) refundQuestion(p payer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.node != "" {
		b.nodes.Refund(p.node)
		return
	}
	b.sources.Refund(p.source)
	b.strangers.Refund()
}
