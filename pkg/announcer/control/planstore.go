package control

import (
	"sync"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// planStore hold the newest plan of each node. Putting never waits, and wakes only the streams
// that wait for a plan which it changes.
type planStore struct {
	mu    sync.Mutex
	plans map[string]plan.NodePlan
	// changed[node] is closed when the node has another plan. There may be one for a node that no
	// stream waits for.
	changed map[string]chan struct{}
	// renewed is closed by the next put, whatever that holds.
	renewed chan struct{}
}

func newPlanStore() *planStore {
	return &planStore{changed: map[string]chan struct{}{}, renewed: make(chan struct{})}
}

// putPlans replaces all plans; nil is none.
func (p *planStore) putPlans(plans map[string]plan.NodePlan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, changed := range p.changed {
		if version := plans[node].Version; !version.IsZero() && version != p.plans[node].Version {
			close(changed)
			delete(p.changed, node)
		}
	}
	p.plans = plans
	close(p.renewed)
	p.renewed = make(chan struct{})
}

// getPlan returns the plan of node, which is zero if there is none, a channel that is closed as
// soon as it has another one, and one that is closed by the next put.
func (p *planStore) getPlan(node string) (set plan.NodePlan, changed, renewed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed[node] == nil {
		p.changed[node] = make(chan struct{})
	}
	return p.plans[node], p.changed[node], p.renewed
}
