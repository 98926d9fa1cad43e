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
	// together is for how long moves are gathered before they are told. The addresses of a
	// dead node arrive at the others within milliseconds, and are heard of one report each.
	together = time.Second
	// handful is how many Events on Services are written of what one node takes at a time.
	// What is more is one Event on the Node: an Event is a write to the API server too.
	handful = 5
	// named is how many addresses a sentence about many names, and how many nodes.
	named = 3
)

// arrival is what one node took over within a short time.
type arrival struct {
	node string
	// moves are sorted by address.
	moves []move
}

// arrivals sorts moves by the node that answers now. Of an address that moved more than
// once the last move counts, from where it was first; one that is back where it was did not
// move.
func arrivals(moves []move) []arrival {
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
	var out []arrival
	for _, node := range slices.Sorted(maps.Keys(byNode)) {
		slices.SortFunc(byNode[node], func(x, y move) int { return x.address.Compare(y.address) })
		out = append(out, arrival{node, byNode[node]})
	}
	return out
}

// many reports whether a is too much for an Event on each Service.
func (a arrival) many() bool {
	n := 0
	for _, m := range a.moves {
		n += max(1, len(m.services))
	}
	return n > handful
}

// origins says where the addresses of a come from and why, most first.
func (a arrival) origins() string {
	counts := map[string]int{}
	for _, m := range a.moves {
		counts[m.origin()]++
	}
	order := slices.SortedFunc(maps.Keys(counts), func(x, y string) int {
		return cmp.Or(cmp.Compare(counts[y], counts[x]), cmp.Compare(x, y))
	})
	var parts []string
	rest := len(a.moves)
	for _, origin := range order[:min(len(order), named)] {
		parts = append(parts, fmt.Sprintf("%d after %s", counts[origin], origin))
		rest -= counts[origin]
	}
	if rest > 0 {
		parts = append(parts, fmt.Sprintf("%d after others", rest))
	}
	return strings.Join(parts, ", ")
}

// list names a few of the addresses of a and counts the others.
func (a arrival) list() string {
	var out []string
	for _, m := range a.moves[:min(len(a.moves), named)] {
		out = append(out, m.address.String())
	}
	if more := len(a.moves) - named; more > 0 {
		return strings.Join(out, ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(out, ", ")
}

func (a arrival) String() string {
	return fmt.Sprintf("node %s answers for %d addresses now: %s (%s)", a.node, len(a.moves), a.origins(), a.list())
}

// origin says which node m comes from and why, "node node1 (NodeDown: …)".
func (m move) origin() string {
	text := "node " + m.from + " (" + string(m.why)
	switch m.why {
	case reason.NodeDown:
		text += ": the others do not hear it"
	case reason.NodeLeft:
		text += ": its announcer was ended"
	case reason.Rebalanced:
		text += ": it answered for more than others"
	case reason.NodeYielded:
		text += ": it gave the address up by itself"
	case reason.NodeUnwell:
		text += ": its kube-proxy does not work"
	case reason.NodeCordoned:
		text += ": it is cordoned"
	}
	return text + ")"
}

func (m move) String() string {
	return fmt.Sprintf("node %s answers for %s now, after %s", m.to, m.address, m.origin())
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
		case <-time.After(together):
		}
		for _, a := range arrivals(p.core.takeMoves()) {
			p.tellArrival(a)
		}
	}
}

// tellArrival writes lines to the log, and Events on the Services, or one on the Node.
func (p *Provider) tellArrival(a arrival) {
	log := p.options.Logger
	if !a.many() {
		for _, m := range a.moves {
			m.log(log, slog.LevelInfo)
			p.tellMove(m)
		}
		return
	}
	log.Info("addresses moved", "node", a.node, "count", len(a.moves), "from", a.origins(), "addresses", a.list())
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
