package cloud

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"baremetal.cloud/ccm/pkg/loadbalancer"
	"baremetal.cloud/ccm/pkg/reason"
)

// departures are the news of nodes that were deleted while their announcers run. It is pure;
// the core is its owner.
type departures struct {
	// uids are those of the deleted Nodes that depart, by name: all have a stream.
	uids map[string]types.UID
	news []departureNews
}

// departureNews is that the leader begins to tell a deleted node of its deletion, or, with a
// cause, forgets the node.
type departureNews struct {
	node  string
	uid   types.UID
	cause loadbalancer.Cause
}

func newDepartures() departures { return departures{uids: map[string]types.UID{}} }

// nodeDeleted notes the UID of a Node that is gone.
func (d *departures) nodeDeleted(name string, uid types.UID) { d.uids[name] = uid }

// nodeForgotten notes that a deleted node is forgotten.
func (d *departures) nodeForgotten(name string, cause loadbalancer.Cause) {
	d.news = append(d.news, departureNews{name, d.uids[name], cause})
	delete(d.uids, name)
}

// nodeReturned notes that there is a Node of that name again.
func (d *departures) nodeReturned(name string) { delete(d.uids, name) }

// departLocked tells deleted nodes of their deletion, and forgets those that have heard of it.
func (c *core) departLocked() (again time.Duration) {
	begun, ended, again := c.lb.Depart(c.now())
	d := &c.departures
	for _, name := range begun {
		d.news = append(d.news, departureNews{node: name, uid: d.uids[name]})
	}
	for _, e := range ended {
		d.nodeForgotten(e.Node, e.Cause)
	}
	c.tellDeparturesLocked()
	return again
}

// leaveLocked notes that a node no longer has a stream, which has ended its departure for
// that cause, if there is one.
func (c *core) leaveLocked(node string, cause loadbalancer.Cause) {
	if cause != "" {
		c.departures.nodeForgotten(node, cause)
	}
	delete(c.departures.uids, node) // A standby has told nothing.
	c.tellDeparturesLocked()
}

func (c *core) tellDeparturesLocked() {
	if len(c.departures.news) > 0 {
		select {
		case c.departed <- struct{}{}:
		default:
		}
	}
}

// takeDepartures returns what there is to tell since it was last called.
func (c *core) takeDepartures() []departureNews {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.departures.news
	c.departures.news = nil
	return out
}

// followDepartures tells, until ctx ends, of nodes that were deleted while their announcers run.
func (p *Provider) followDepartures(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.core.departed:
		}
		for _, n := range p.core.takeDepartures() {
			p.tellDeparture(n)
		}
	}
}

// tellDeparture writes a line to the log, and an Event on the Node that is gone.
func (p *Provider) tellDeparture(n departureNews) {
	kind, text := corev1.EventTypeNormal, fmt.Sprintf("node %s was deleted while its announcer runs: its addresses move to others as in a planned move", n.node)
	switch n.cause {
	case "":
	case loadbalancer.CauseAcknowledged, loadbalancer.CauseLeft:
		text = fmt.Sprintf("node %s, which was deleted, answers for no address any longer: %s", n.node, n.cause)
	default:
		kind, text = corev1.EventTypeWarning, fmt.Sprintf("node %s, which was deleted, may still answer for addresses: %s; end its announcer", n.node, n.cause)
	}
	p.options.Logger.Info(text, "node", n.node)
	gone := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.node, UID: n.uid}}
	p.recorder.Event(gone, kind, string(reason.NodeDeleting), text)
}

// shortestTime returns the shortest of the times that are not 0, which means never.
func shortestTime(times ...time.Duration) (out time.Duration) {
	for _, t := range times {
		if t > 0 && (out == 0 || t < out) {
			out = t
		}
	}
	return out
}
