package announcer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/internal/addressqueue"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// nextBatch takes the addresses to carry out next: if something happened to any but those
// that the node begins to answer for, all of these, else some of the latter, which wait for
// others in one turn at most. There may be none.
func (c *core) nextBatch() []netip.Addr {
	var first []netip.Addr
	begin := map[netip.Addr]bool{}
	for address := range c.touched {
		if _, wanted := c.desired[address]; wanted || c.failover.Claim(address).IsZero() {
			first = append(first, address)
		} else {
			begin[address] = true
		}
	}
	c.touched = map[netip.Addr]bool{}
	addressqueue.AddKeys(&c.begin, begin)
	if c.passed = len(first) > 0 && c.begin.Len() > 0 && !c.passed; c.passed {
		return first
	}
	return slices.Concat(first, c.begin.Take(c.batchSize.applySize()))
}

// isLate reports whether the whole plan is carried out, and appliedVersion does not say so yet.
func (c *core) isLate() bool {
	return c.appliedVersion != c.nodePlan.Version && c.links != nil && !c.persisted.isWaiting() && !c.hasPending() && !c.failover.Undecided()
}

// hasPending reports whether there is more to do at once.
func (c *core) hasPending() bool { return c.reconsider.Len()+c.begin.Len()+len(c.touched) > 0 }

// setDesired brings ports to what is claimed of addresses.
func (c *core) setDesired(addresses []netip.Addr) {
	for _, address := range addresses {
		if before, ok := c.desired[address]; ok {
			c.ports.removeAddress(address, before.interfaces)
			delete(c.desired, address)
		}
		version, o := c.failover.Claim(address), c.options[address]
		if c.stopping || version.IsZero() || o.problem != nil || len(o.interfaces) == 0 {
			continue // Failover may not have thought yet of what became of the option.
		}
		a := answer{plan.Claim{Address: address, Version: version}, o.interfaces}
		c.desired[address] = a
		c.ports.addAddress(address, a.interfaces)
	}
}

// commitApplied takes what came of ports with addresses: failed says where no socket could be
// opened.
func (c *core) commitApplied(now time.Time, addresses []netip.Addr, failed failures) {
	c.retry = len(c.failing) > 0
	c.lastRetry = now
	for _, byIndex := range failed {
		if len(byIndex) > 0 && !c.retry {
			c.retry, c.retryAt = true, now.Add(retryAfter)
		}
	}
	problems := c.problems
	if !failed.equalFailures(c.failed) {
		c.failed = failed
		for address := range c.desired {
			c.reconcileAddress(now, address)
		}
	}
	for _, address := range addresses {
		c.reconcileAddress(now, address)
	}
	if !problems.Equal(c.problems) {
		c.listed = slices.Collect(c.problems.All())
	}
	if c.isLate() {
		c.appliedVersion = c.nodePlan.Version
	}
}

// reconcileAddress brings the state of an address to what came of it.
func (c *core) reconcileAddress(now time.Time, address netip.Addr) {
	o := c.options[address]
	answer, wanted := c.desired[address]
	var problem *plan.Problem
	switch {
	case wanted:
		if answer, problem = c.failed.reachedOf(answer); problem != nil {
			c.failing[address], wanted = *problem, false
			c.reconsider.Add(address)
		}
	case !c.stopping && slices.Contains(o.Candidates, c.node):
		problem = cmp.Or(o.problem, o.mute) // Also of a backup: the cluster side must know before it matters.
	}
	if problem != nil {
		c.addProblem(*problem)
	} else {
		c.problems = c.problems.Without(address)
	}
	if wanted {
		c.addClaim(now, answer)
	} else {
		c.endClaim(address, problem != nil)
	}
}

// addProblem keeps a problem, and writes down that it is new.
func (c *core) addProblem(problem plan.Problem) {
	if before, ok := c.problems.Find(problem.Address); ok && before == problem {
		return
	}
	c.problems = c.problems.With(problem)
	what := unable
	if candidates := c.options[problem.Address].Candidates; len(candidates) > 0 && candidates[0] == c.node {
		what = hindered
	}
	c.logAggregator.addEvent(problem.Address, event{what, problem.Message})
}

// muteBy takes on which interfaces no heartbeat leaves, though peers are heard there or not, and
// reports whether that is news. Where heartbeats leave again the node has to listen first: others
// may answer for what it had there.
func (c *core) muteBy(boot time.Duration, unsent, unheard map[int]string) bool {
	before := c.unsent
	for _, failing := range []map[int]string{c.unsent, c.unheard} {
		for index := range failing {
			if unsent[index]+unheard[index] == "" {
				c.failover.Listen(boot)
			}
		}
	}
	c.unsent, c.unheard = unsent, unheard
	if maps.Equal(before, unsent) {
		return false
	}
	c.reconsiderAll()
	return true
}

// mutedProblem returns the problem of an address whose interfaces are all mute: peers take the node for
// down, and must get the address if they can have it.
func (c *core) mutedProblem(o option) *plan.Problem {
	var why string
	for _, i := range o.interfaces {
		text, mute := c.unsent[i.Index]
		if !mute {
			return nil
		}
		why = text
	}
	if why == "" {
		return nil
	}
	return &plan.Problem{Address: o.Address, Reason: reason.HeartbeatsNotSent, Message: why}
}

// addClaim keeps that the node answers as a says.
func (c *core) addClaim(now time.Time, a answer) {
	address := a.claim.Address
	before, held := c.claims.Find(address)
	claim := Claim{Address: address, Since: before.Since, List: a.claim.Version}
	if !held {
		claim.Since = now
		c.started[c.startCause(address)]++
	}
	claim.Interfaces, claim.hardware = a.placeText()
	c.claims, c.claimed = c.claims.With(claim), c.claimed.With(a.claim)
	if claim.Interfaces != before.Interfaces || claim.hardware != before.hardware {
		c.schedule.startBurst(address, now)
		c.logAggregator.addEvent(address, event{answering, claim.Interfaces})
	}
}

// endClaim keeps that the node does not answer for address. Unless a problem says why, that is
// written down.
func (c *core) endClaim(address netip.Addr, explained bool) {
	if !c.claims.Has(address) {
		return
	}
	c.claims, c.claimed = c.claims.Without(address), c.claimed.Without(address)
	c.schedule.stopAddress(address)
	if explained {
		c.ended[endedProblem]++
		return
	}
	cause, text := c.endCause(address)
	c.ended[cause]++
	c.logAggregator.addEvent(address, event{stopped, text})
}
