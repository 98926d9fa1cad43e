package control

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"google.golang.org/grpc/codes"
)

// pendingPerNode bounds the streams of one node that await admission: the next one may come
// before the end of the last one is seen.
const pendingPerNode = 2

// admissionLimiter bounds the streams that are not admitted yet, and so what strangers can cost.
// Streams that come from an address of the Node that they name have a bound of their own:
// strangers do not keep them waiting.
type admissionLimiter struct {
	nodes, strangers chan struct{}
	perSource        int

	mu      sync.Mutex
	sources map[netip.Addr]*sourceQueue
}

// sourceQueue is what one address has waiting.
type sourceQueue struct {
	waiting map[string]int // by node; strangers' under ""
	// turns are those of nodes. Behind one address there may be many, and another machine that
	// names them: together they have a part of the slots, and take turns.
	turns chan struct{}
}

func newAdmissionLimiter(total, perSource int) *admissionLimiter {
	return &admissionLimiter{
		nodes: make(chan struct{}, total), strangers: make(chan struct{}, total),
		perSource: perSource, sources: map[netip.Addr]*sourceQueue{},
	}
}

// enterSlot waits for a slot. node is "" where source is not an address of the Node that the
// stream names. leave, which is never nil, gives the slot back.
func (p *admissionLimiter) enterSlot(ctx context.Context, node string, source netip.Addr) (leave func(), err error) {
	queue, err := p.countStream(node, source)
	if err != nil {
		return func() {}, err
	}
	gates := []chan struct{}{p.strangers}
	if node != "" {
		gates = []chan struct{}{queue.turns, p.nodes}
	}
	passed := 0
	leave = func() {
		for _, gate := range gates[:passed] {
			<-gate
		}
		p.uncountStream(node, source)
	}
	for _, gate := range gates {
		select {
		case gate <- struct{}{}:
			passed++
		case <-ctx.Done():
			leave()
			return func() {}, newRefusal(CauseBusy, codes.Unavailable,
				fmt.Errorf("%d streams await admission already", cap(gate)))
		}
	}
	return leave, nil
}

func (p *admissionLimiter) countStream(node string, source netip.Addr) (*sourceQueue, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	queue := p.sources[source]
	if queue == nil {
		queue = &sourceQueue{waiting: map[string]int{}, turns: make(chan struct{}, p.perSource)}
		p.sources[source] = queue
	}
	most := pendingPerNode
	if node == "" {
		most = p.perSource
	}
	if queue.waiting[node] >= most {
		return nil, newRefusal(CauseBusy, codes.ResourceExhausted,
			fmt.Errorf("%d streams from %s await admission already", most, source))
	}
	queue.waiting[node]++
	return queue, nil
}

func (p *admissionLimiter) uncountStream(node string, source netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	queue := p.sources[source]
	if queue.waiting[node]--; queue.waiting[node] == 0 {
		delete(queue.waiting, node)
	}
	if len(queue.waiting) == 0 {
		delete(p.sources, source)
	}
}

// len is the number of streams that await admission.
func (p *admissionLimiter) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, queue := range p.sources {
		for _, count := range queue.waiting {
			n += count
		}
	}
	return n
}
