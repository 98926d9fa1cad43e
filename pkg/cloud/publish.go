package cloud

import (
	"context"
	"errors"
	"time"
)

// claimGatherDelay is how long a new leader waits for the nodes to say what they answer for, and how
// long a node with an announcer takes at most to connect to a replica that has begun.
// claimGatherPeriod is the time between two looks whether it still has to wait.
const (
	claimGatherDelay  = 10 * time.Second
	claimGatherPeriod = 500 * time.Millisecond
)

// publishPlans turns what the core decided into the nodes' plans, for as long as this replica
// leads. It says nothing until every node that may answer has reported, or gather has
// passed: the nodes that answer now go on.
func (p *Provider) publishPlans(ctx context.Context, cluster string) error {
	defer p.server.Publish(nil)
	timeout := time.NewTimer(claimGatherDelay)
	defer timeout.Stop()
	look := time.NewTicker(claimGatherPeriod)
	defer look.Stop()
	gathered := false
	_, secretKnown := p.options.Secret()
	var again <-chan time.Time
	for {
		if !gathered && len(p.core.awaitedNodes()) == 0 {
			gathered = true
			look.Stop()
		}
		again = nil
		settled := p.options.Watches.Changed()
		if p.options.Watches.Settled() {
			settled = nil
		}
		if gathered && settled == nil {
			if wait := p.publishOnce(ctx, cluster); wait > 0 {
				again = time.After(wait)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.core.wake:
		case <-again:
		case <-look.C:
		case <-settled: // half of what a list brought says nothing
		case <-p.options.Elector.Changed():
		case <-secretKnown:
			secretKnown = nil
		case <-timeout.C:
			if nodes := p.core.awaitedNodes(); !gathered && len(nodes) > 0 {
				p.options.Logger.Warn("some nodes have not reported; going on without them", "nodes", nodes, "waited", claimGatherDelay)
			}
			gathered = true
			look.Stop()
		}
	}
}

// publishOnce hands the newest plans to the control server, if this replica leads beyond
// doubt. It returns when to do so again though nothing has changed; 0 is never.
func (p *Provider) publishOnce(ctx context.Context, cluster string) (again time.Duration) {
	elector := p.options.Elector
	raiseAgain := p.raiseTerm(ctx)
	if err := elector.Fence().Err(); err != nil {
		if p.publishing.Swap(false) {
			p.options.Logger.Warn("plans are withheld", "reason", err)
		}
		p.server.Publish(nil)
		return 0
	}
	secret, _ := p.options.Secret()
	plans, again := p.core.planNodes(cluster, elector.Term(), secret)
	p.tellPeerRestarts(p.core.peerRestarts())
	if !p.publishing.Swap(true) {
		p.options.Logger.Info("publishing plans", "term", elector.Term(), "nodes", len(plans))
	}
	for _, set := range plans {
		if newest := p.newest.Load(); newest == nil || newest.Compare(set.Version) < 0 {
			version := set.Version // a copy for each set would be a thousand of them at every report
			p.newest.Store(&version)
		}
	}
	p.server.Publish(plans)
	if raiseAgain > 0 && (again == 0 || raiseAgain < again) {
		again = raiseAgain
	}
	return again
}

// raiseTerm makes the term greater than any under which a node obeyed another leader, as often
// as one node may cause that. It returns when to do so again; 0 is not at all.
func (p *Provider) raiseTerm(ctx context.Context) (again time.Duration) {
	elector := p.options.Elector
	least, again := p.terms.nextTerm(elector.Term(), p.core.now())
	if least == 0 {
		return again
	}
	err := elector.Raise(ctx, least-1)
	if err != nil && !errors.Is(err, context.Canceled) {
		p.options.Logger.Warn("an announcer obeyed another leader and our term could not be raised above that one's",
			"heard", least-1, "term", elector.Term(), "err", err)
	}
	return again
}
