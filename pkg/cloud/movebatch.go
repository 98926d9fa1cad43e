package cloud

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"baremetal.cloud/ccm/pkg/reason"
)

const (
	// moveBatchDelay is for how long moves are gathered before followMoves tells of them. The
	// addresses of a dead node arrive at the others within milliseconds, and are heard of one
	// report each.
	moveBatchDelay = time.Second
	// moveEventsLimit is how many Events on Services are written of what one node takes at a time.
	// What is more is one Event on the Node: an Event is a write to the API server too.
	moveEventsLimit = 5
	// namesLimit is how many addresses a sentence about many names, and how many nodes.
	namesLimit = 3
)

// moveBatch is what one node took over within a short time.
type moveBatch struct {
	node string
	// moves are sorted by address.
	moves []move
}

// batchMoves sorts moves by the node that answers now. Of an address that moved more than
// once the last move counts, from where it was first; one that is back where it was did not
// move.
func batchMoves(moves []move) []moveBatch {
	last := map[string]move{}
	for _, m := range moves {
		key := m.address.String()
		if before, ok := last[key]; ok {
			m.from, m.why = before.from, before.why
		}
		last[key] = m
	}
	byNode := map[string][]move{}
	for _, m := range last {
		if m.from != m.to {
			byNode[m.to] = append(byNode[m.to], m)
		}
	}
	var out []moveBatch
	for _, node := range slices.Sorted(maps.Keys(byNode)) {
		slices.SortFunc(byNode[node], func(x, y move) int { return x.address.Compare(y.address) })
		out = append(out, moveBatch{node, byNode[node]})
	}
	return out
}

// isLarge reports whether a is too much for an Event on each Service.
func (a moveBatch) isLarge() bool {
	n := 0
	for _, m := range a.moves {
		n += max(1, len(m.services))
	}
	return n > moveEventsLimit
}

// originsText says where the addresses of a come from and why, most first.
func (a moveBatch) originsText() string {
	counts := map[string]int{}
	for _, m := range a.moves {
		counts[m.originText()]++
	}
	order := slices.SortedFunc(maps.Keys(counts), func(x, y string) int {
		return cmp.Or(cmp.Compare(counts[y], counts[x]), cmp.Compare(x, y))
	})
	var parts []string
	rest := len(a.moves)
	for _, origin := range order[:min(len(order), namesLimit)] {
		parts = append(parts, fmt.Sprintf("%d after %s", counts[origin], origin))
		rest -= counts[origin]
	}
	if rest > 0 {
		parts = append(parts, fmt.Sprintf("%d after others", rest))
	}
	return strings.Join(parts, ", ")
}

// addressesText names a few of the addresses of a and counts the others.
func (a moveBatch) addressesText() string {
	var out []string
	for _, m := range a.moves[:min(len(a.moves), namesLimit)] {
		out = append(out, m.address.String())
	}
	if more := len(a.moves) - namesLimit; more > 0 {
		return strings.Join(out, ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(out, ", ")
}

func (a moveBatch) String() string {
	return fmt.Sprintf("node %s answers for %d addresses now: %s (%s)", a.node, len(a.moves), a.originsText(), a.addressesText())
}

// originText says which node m comes from and why, "node node1 (NodeDown: …)".
func (m move) originText() string {
	text := "node " + m.from + " (" + string(m.why)
	switch m.why {
	case reason.NodeDown:
		text += ": the others do not hear it"
	case reason.AnnouncerStopped:
		text += ": its announcer was ended"
	case reason.Rebalanced:
		text += ": it answered for more than others"
	case reason.ClaimReleased:
		text += ": it gave the address up by itself"
	case reason.KubeProxyUnhealthy:
		text += ": its kube-proxy does not work"
	case reason.NodeCordoned:
		text += ": it is cordoned"
	}
	return text + ")"
}

func (m move) String() string {
	return fmt.Sprintf("node %s answers for %s now, after %s", m.to, m.address, m.originText())
}

// followMoves tells of moves until ctx ends.
func (p *Provider) followMoves(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.core.moved:
		}
		select {
		case <-ctx.Done():
		case <-time.After(moveBatchDelay):
		}
		for _, a := range batchMoves(p.core.takeMoves()) {
			p.tellMoveBatch(a)
		}
	}
}

// tellMoveBatch writes lines to the log, and Events on the Services, or one on the Node.
func (p *Provider) tellMoveBatch(a moveBatch) {
	log := p.options.Logger
	if !a.isLarge() {
		for _, m := range a.moves {
			m.log(log, slog.LevelInfo)
			p.tellMove(m)
		}
		return
	}
	log.Info("addresses moved", "node", a.node, "count", len(a.moves), "from", a.originsText(), "addresses", a.addressesText())
	for _, m := range a.moves {
		m.log(log, slog.LevelDebug)
	}
	p.mover.Event(p.nodeObject(a.node), corev1.EventTypeNormal, string(reason.Announced), a.String())
}

func (m move) log(log *slog.Logger, level slog.Level) {
	log.Log(context.Background(), level, "address moved", "address", m.address, "node", m.to, "from", m.from, "reason", m.why, "services", m.services)
}

// tellMove writes an Event on each Service that holds the address.
func (p *Provider) tellMove(m move) {
	for _, key := range m.services {
		namespace, name, err := cache.SplitMetaNamespaceKey(key)
		if err != nil {
			continue
		}
		if svc, err := p.listers.services.Services(namespace).Get(name); err == nil {
			p.mover.Event(svc, corev1.EventTypeNormal, string(reason.Announced), m.String())
		}
	}
}
