package cloud

import (
	"sync"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// raiseEvery is how often one node may make the leader raise its term. Each time all nodes
// get new plans, and write them to their disks.
const raiseEvery = time.Minute

// maxStep is how far a leader raises its term at once, see plan.MaxLeap.
const maxStep = plan.MaxLeap / 2

// terms remember under which terms nodes obeyed another leader.
type terms struct {
	mu sync.Mutex
	// nodes is guarded by mu.
	nodes map[string]*nodeTerm
}

// nodeTerm is what one node said.
type nodeTerm struct {
	// least is the least term that is above what the node obeyed, as it said last.
	least uint64
	// raised is when the term was last raised because of the node.
	raised time.Time
	// told is when an implausible term of it was last told of.
	told time.Time
}

// takeTerm takes the least term that the node's report asks for.
func (t *terms) takeTerm(node string, least uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nodes == nil {
		t.nodes = map[string]*nodeTerm{}
	}
	n := t.nodes[node]
	if n == nil {
		n = &nodeTerm{}
		t.nodes[node] = n
	}
	n.least = least
}

// isPlausible reports whether a history of leaders can have reached a term where the leader
// has own.
func isPlausible(term, own uint64) bool { return term <= plan.MaxTerm && term <= own+maxStep }

// shouldReport reports whether to tell that an implausible term was heard from node: once in
// raiseEvery, as a node can make up any number of them.
func (t *terms) shouldReport(node string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[node]
	if n == nil || !n.told.IsZero() && now.Sub(n.told) < raiseEvery {
		return false
	}
	n.told = now
	return true
}

// forgetNode drops a node that there is no more.
func (t *terms) forgetNode(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.nodes, node)
}

// nextTerm returns the term to raise to, where the leader has term, and when to ask again; both
// are 0 for not at all. Of a term that is far above only a step is taken: were a node to lie,
// the others would refuse the whole.
func (t *terms) nextTerm(term uint64, now time.Time) (least uint64, again time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.nodes {
		if n.least <= term || n.least > plan.MaxTerm {
			continue
		}
		if wait := n.raised.Add(raiseEvery).Sub(now); wait > 0 && !n.raised.IsZero() {
			if again == 0 || wait < again {
				again = wait
			}
			continue
		}
		least = max(least, n.least)
	}
	if least == 0 {
		return 0, again
	}
	if least > term+maxStep {
		least, again = term+maxStep, raiseEvery
	}
	for _, n := range t.nodes {
		if n.least > term {
			n.raised = now
		}
	}
	return least, again
}
