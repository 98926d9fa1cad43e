package sight

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/internal/backlog"
)

// Settle brings claims to what the rule says, of so many addresses as there is time for, and
// returns those whose claims changed since it was last called.
func (c *Core) Settle(now time.Duration) []netip.Addr {
	c.expire(now)
	if c.unsent != c.stuck {
		c.unsent, c.all = c.stuck, true
	}
	for _, address := range c.undecided(now) {
		c.settle(now, address)
	}
	if len(c.settled) == 0 {
		return nil
	}
	out := slices.Collect(maps.Keys(c.settled))
	c.settled = map[netip.Addr]bool{}
	return out
}

// undecided takes addresses to decide about now.
func (c *Core) undecided(now time.Duration) []netip.Addr {
	for _, address := range c.again.Take(now) {
		c.dirty.Add(address)
	}
	if c.all {
		c.all = false
		backlog.AddKeys(&c.dirty, c.lists)
		for claim := range c.claims.held.All() {
			c.dirty.Add(claim.Address)
		}
	}
	return c.dirty.Take(c.share)
}

// settle applies the rule to one address.
func (c *Core) settle(now time.Duration, address netip.Addr) {
	c.again.Delete(address)
	e := c.lists[address]
	switch {
	case e == nil || c.leaving:
		c.claim(address, announcement.Stamp{})
	case c.interval == 0 && (!e.Unconfirmed || e.planned(c.node).IsZero()):
		c.claim(address, e.planned(c.node))
	default:
		c.decide(now, address, e)
	}
}

func (c *Core) decide(now time.Duration, address netip.Addr, e *entry) {
	if (e.probe == Silent || e.probe == Answered) && now >= e.probed+askAgain {
		e.probe = Unasked
	}
	own := c.claims.of(address)
	verdict := c.verdict(now, address, own, e)
	if !own.IsZero() && verdict.Claim.IsZero() {
		// From now on it is one that may take the address, and has to know when.
		own = announcement.Stamp{}
		e.lapsed = e.namesFirst(c.node)
		c.claim(address, own)
		if c.yielded(now, e) {
			e.probe, e.probed = Answered, now+c.yieldPause(e)
		}
		verdict = c.verdict(now, address, own, e)
	}
	again := verdict.Again
	if verdict.Ask {
		e.probe = Asking
		c.asks.Add(address)
	}
	if e.probe == Silent || e.probe == Answered {
		again = sooner(again, e.probed+askAgain)
	}
	if own.IsZero() && !verdict.Claim.IsZero() {
		e.cautious, e.silence, e.lapsed = false, e.probe == Silent, false
	}
	c.claim(address, verdict.Claim)
	if !verdict.Claim.IsZero() {
		again = sooner(again, c.insist(now, address, e))
	}
	if again != 0 {
		c.again.Set(address, again)
	}
}

// verdict decides about an address that the node claims under own, and notes what is to be
// known of it from now on.
func (c *Core) verdict(now time.Duration, address netip.Addr, own announcement.Stamp, e *entry) Verdict {
	v := c.view(address, own, e)
	if slices.ContainsFunc(v.Others, func(o Other) bool { return o.State == Up && !o.Known }) {
		if _, known := c.waiting[address]; !known {
			c.waiting[address] = now
		}
	}
	e.current = e.current || v.current()
	return Decide(now, v)
}

// planned returns the claim of a node that does as the plan says.
func (l List) planned(node string) announcement.Stamp {
	if l.Fit && l.namesFirst(node) {
		return l.Stamp
	}
	return announcement.Stamp{}
}

func (c *Core) claim(address netip.Addr, stamp announcement.Stamp) {
	if c.claims.set(address, stamp) {
		c.changed[address], c.settled[address] = true, true
	}
}

// view gathers what bears on an address that the node claims under own. It is good until view
// is called again.
func (c *Core) view(address netip.Addr, own announcement.Stamp, e *entry) View {
	v := View{
		Node: c.node, Stamp: e.Stamp, Candidates: e.Candidates, Fit: e.Fit, Own: own,
		Ready: e.ready(), Unwell: c.unwell,
		Since: e.since, Waited: e.waited, Cautious: e.cautious, Listen: c.until, Probe: e.probe, Others: c.others[:0],
	}
	for _, name := range e.Candidates {
		if p := c.peers[name]; p != nil {
			o := p.other(c.counted(p, address), c.interval)
			o.Overheard = c.overheard(e, name)
			v.Others = append(v.Others, o)
		}
	}
	for _, p := range c.claimants[address] {
		claim := c.counted(p, address)
		if !claim.IsZero() && !slices.Contains(e.Candidates, p.name) {
			v.Others = append(v.Others, p.other(claim, c.interval))
		}
	}
	c.others = v.Others
	v.Unconfirmed = e.Unconfirmed && !e.current && !v.current()
	v.Unsent = c.unsent
	if e.lapsed {
		v.Lapse = e.lapse
	}
	return v
}
