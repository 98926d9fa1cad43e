package failover

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/internal/addressqueue"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Reconcile brings claims to what the rule says, of so many addresses as there is time for, and
// returns those whose claims changed since it was last called.
func (c *Node) Reconcile(now time.Duration) []netip.Addr {
	c.expirePeers(now)
	if c.unsent != c.stuck {
		c.unsent, c.all = c.stuck, true
	}
	for _, address := range c.takeDirty(now) {
		c.reconcileAddress(now, address)
	}
	if len(c.changedOwn) == 0 {
		return nil
	}
	out := slices.Collect(maps.Keys(c.changedOwn))
	c.changedOwn = map[netip.Addr]bool{}
	return out
}

// takeDirty takes addresses to decide about now.
func (c *Node) takeDirty(now time.Duration) []netip.Addr {
	for _, address := range c.again.Take(now) {
		c.dirty.Add(address)
	}
	if c.all {
		c.all = false
		addressqueue.AddKeys(&c.dirty, c.lists)
		for claim := range c.claims.held.All() {
			c.dirty.Add(claim.Address)
		}
	}
	return c.dirty.Take(c.batchSize)
}

// reconcileAddress applies the rule to one address.
func (c *Node) reconcileAddress(now time.Duration, address netip.Addr) {
	c.again.Delete(address)
	e := c.lists[address]
	switch {
	case e == nil || c.leaving:
		c.setClaim(address, plan.Version{})
	case c.interval == 0 && (!e.Unconfirmed || e.plannedClaim(c.name).IsZero()):
		c.setClaim(address, e.plannedClaim(c.name))
	default:
		c.decideAddress(now, address, e)
	}
}

func (c *Node) decideAddress(now time.Duration, address netip.Addr, e *entry) {
	if (e.probe == Silent || e.probe == Answered) && now >= e.probed+askAgain {
		e.probe = Unasked
	}
	own := c.claims.versionOf(address)
	decision := c.decideFor(now, address, own, e)
	if !own.IsZero() && decision.Claim.IsZero() {
		// From now on it is one that may take the address, and has to know when.
		own = plan.Version{}
		e.lapsed = e.namesFirst(c.name)
		c.setClaim(address, own)
		if c.hasYielded(now, e) {
			e.probe, e.probed = Answered, now+c.yieldPause(e)
		}
		decision = c.decideFor(now, address, own, e)
	}
	again := decision.Again
	if decision.Probe {
		e.probe = Asking
		c.asks.Add(address)
	}
	if e.probe == Silent || e.probe == Answered {
		again = earlierTime(again, e.probed+askAgain)
	}
	if own.IsZero() && !decision.Claim.IsZero() {
		e.restarted, e.silence, e.lapsed = false, e.probe == Silent, false
	}
	c.setClaim(address, decision.Claim)
	if !decision.Claim.IsZero() {
		again = earlierTime(again, c.reannounceNow(now, address, e))
	}
	if again != 0 {
		c.again.Set(address, again)
	}
}

// decideFor decides about an address that the node claims under own, and notes what later
// decisions need to know of it.
func (c *Node) decideFor(now time.Duration, address netip.Addr, own plan.Version, e *entry) Decision {
	v := c.inputFor(address, own, e)
	if slices.ContainsFunc(v.Peers, func(o Peer) bool { return o.State == Up && !o.Known }) {
		if _, known := c.waiting[address]; !known {
			c.waiting[address] = now
		}
	}
	e.current = e.current || v.hasCurrentClaim()
	return Decide(now, v)
}

// plannedClaim returns the claim of a node that does as the plan says.
func (l List) plannedClaim(node string) plan.Version {
	if l.Able && l.namesFirst(node) {
		return l.Version
	}
	return plan.Version{}
}

func (c *Node) setClaim(address netip.Addr, version plan.Version) {
	if c.claims.setVersion(address, version) {
		c.changed[address], c.changedOwn[address] = true, true
	}
}

// inputFor gathers what bears on an address that the node claims under own. It is good until view
// is called again.
func (c *Node) inputFor(address netip.Addr, own plan.Version, e *entry) Input {
	v := Input{
		Node: c.name, Version: e.Version, Candidates: e.Candidates, Able: e.Able, Own: own,
		Ready: e.ready(), Unhealthy: c.unhealthy,
		Since: e.since, Waited: e.waited, Restarted: e.restarted, Listen: c.until, Probe: e.probe, Peers: c.others[:0],
	}
	for _, name := range e.Candidates {
		if p := c.peers[name]; p != nil {
			o := p.asPeer(c.countedClaim(p, address), c.interval)
			o.YieldAt = c.yieldTime(e, name)
			v.Peers = append(v.Peers, o)
		}
	}
	for _, p := range c.claimants[address] {
		claim := c.countedClaim(p, address)
		if !claim.IsZero() && !slices.Contains(e.Candidates, p.name) {
			v.Peers = append(v.Peers, p.asPeer(claim, c.interval))
		}
	}
	c.others = v.Peers
	v.Unconfirmed = e.Unconfirmed && !e.current && !v.hasCurrentClaim()
	v.Unsent = c.unsent
	if e.lapsed {
		v.Lapse = e.lapse
	}
	return v
}
