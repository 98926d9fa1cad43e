package control

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// registry knows the one stream that speaks for each node, and tells the Observer.
type registry struct {
	observer Observer

	// observing orders the calls to the Observer. It is taken before mu and never held
	// with it while the Observer runs, so that the Observer may look at the Server.
	observing sync.Mutex

	mu      sync.Mutex
	holders map[string]*serverStream
}

func newRegistry(observer Observer) *registry {
	return &registry{observer: observer, holders: map[string]*serverStream{}}
}

// joinNode makes st its node's stream. An earlier stream of the same Pod, which may be a dead
// connection, or of an older Pod gives way and is returned; otherwise st is refused, lest
// a Pod on its way out, or a copy of its token, takes the node from the one that runs.
func (r *registry) joinNode(st *serverStream, report plan.Report) (superseded *serverStream, err error) {
	r.observing.Lock()
	defer r.observing.Unlock()
	node := st.identity.Node
	old, err := r.takeOver(st)
	if err != nil {
		return nil, err
	}
	if old != nil {
		close(old.superseded)
	}
	switch {
	case old != nil && old.identity.PodUID == st.identity.PodUID:
		r.observer.NodeReported(node, report) // the node was never without a stream
	case old != nil:
		r.observer.NodeDisconnected(node)
		r.observer.NodeConnected(node, report)
	default:
		r.observer.NodeConnected(node, report)
	}
	return old, nil
}

func (r *registry) takeOver(st *serverStream) (old *serverStream, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old = r.holders[st.identity.Node]
	if old != nil && !supersedesHolder(st.identity, old.identity) {
		return nil, newRefusal(CauseOlderPod, codes.AlreadyExists,
			fmt.Errorf("node %s: Pod %s, which is not older, has a stream", st.identity.Node, old.identity.PodUID))
	}
	r.holders[st.identity.Node] = st
	return old, nil
}

// supersedesHolder reports whether a stream of next takes the place of one of held.
func supersedesHolder(next, held Identity) bool {
	return next.PodUID == held.PodUID || next.PodCreated.After(held.PodCreated)
}

// reportNode passes on what st's node says, unless st speaks for it no longer.
func (r *registry) reportNode(st *serverStream, report plan.Report) {
	r.observing.Lock()
	defer r.observing.Unlock()
	if !r.isHolder(st) {
		return
	}
	r.observer.NodeReported(st.identity.Node, report)
}

// leaveNode ends st's part. It does nothing where a newer stream took over.
func (r *registry) leaveNode(st *serverStream) {
	r.observing.Lock()
	defer r.observing.Unlock()
	if !r.isHolder(st) {
		return
	}
	r.mu.Lock()
	delete(r.holders, st.identity.Node)
	r.mu.Unlock()
	r.observer.NodeDisconnected(st.identity.Node)
}

func (r *registry) isHolder(st *serverStream) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holders[st.identity.Node] == st
}

// countStates counts the streams that were told a plan and those that were not.
func (r *registry) countStates() (silent, planned int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, st := range r.holders {
		if st.planned.Load() {
			planned++
		} else {
			silent++
		}
	}
	return silent, planned
}
