package announcer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/internal/backlog"
	"baremetal.cloud/ccm/pkg/reason"
)

// portion takes the addresses to carry out next: if something happened to any but those
// that the node begins to answer for, all of these, else some of the latter, which wait for
// others in one turn at most. There may be none.
func (c *core) portion() []netip.Addr {
	var first []netip.Addr
	begin := map[netip.Addr]bool{}
	for address := range c.touched {
		if _, wanted := c.wants[address]; wanted || c.sight.Claim(address).IsZero() {
			first = append(first, address)
		} else {
			begin[address] = true
		}
	}
	c.touched = map[netip.Addr]bool{}
	backlog.AddKeys(&c.begin, begin)
	if c.passed = len(first) > 0 && c.begin.Len() > 0 && !c.passed; c.passed {
		return first
	}
	return slices.Concat(first, c.begin.Take(c.pace.portion()))
}

// late says that the whole plan is carried out, and that nobody was told yet.
func (c *core) late() bool {
	return c.plan != c.set.Stamp && c.links != nil && !c.kept.waits() && !c.pending() && !c.sight.Undecided()
}

// pending says that there is more to do at once.
func (c *core) pending() bool { return c.reconsider.Len()+c.begin.Len()+len(c.touched) > 0 }

// want brings ports to what is claimed of addresses.
func (c *core) want(addresses []netip.Addr) {
	for _, address := range addresses {
		if before, ok := c.wants[address]; ok {
			c.ports.remove(address, before.interfaces)
			delete(c.wants, address)
		}
		stamp, o := c.sight.Claim(address), c.options[address]
		if c.leaving || stamp.IsZero() || o.problem != nil || len(o.interfaces) == 0 {
			continue // Sight may not have thought yet of what became of the option.
		}
		a := answer{announcement.Claim{Address: address, Stamp: stamp}, o.interfaces}
		c.wants[address] = a
		c.ports.add(address, a.interfaces)
	}
}

// applied takes what came of ports with addresses: failed says where no socket could be
// opened.
func (c *core) applied(now time.Time, addresses []netip.Addr, failed failures) {
	c.retry = len(c.failing) > 0
	c.lastRetry = now
	for _, byIndex := range failed {
		if len(byIndex) > 0 && !c.retry {
			c.retry, c.retryAt = true, now.Add(retryAfter)
		}
	}
	problems := c.problems
	if !failed.equal(c.failed) {
		c.failed = failed
		for address := range c.wants {
			c.reach(now, address)
		}
	}
	for _, address := range addresses {
		c.reach(now, address)
	}
	if !problems.Equal(c.problems) {
		c.listed = slices.Collect(c.problems.All())
	}
	if c.late() {
		c.plan = c.set.Stamp
	}
}

// reach brings the state of an address to what came of it.
func (c *core) reach(now time.Time, address netip.Addr) {
	o := c.options[address]
	answer, wanted := c.wants[address]
	var problem *announcement.Problem
	switch {
	case wanted:
		if answer, problem = c.failed.reached(answer); problem != nil {
			c.failing[address], wanted = *problem, false
			c.reconsider.Add(address)
		}
	case !c.leaving && slices.Contains(o.Candidates, c.node):
		problem = cmp.Or(o.problem, o.mute) // Also of one that stands by: the cluster side is to know before it matters.
	}
	if problem != nil {
		c.hinder(*problem)
	} else {
		c.problems = c.problems.Without(address)
	}
	if wanted {
		c.hold(now, answer)
	} else {
		c.end(address, problem != nil)
	}
}

// hinder keeps a problem, and writes down that it is new.
func (c *core) hinder(problem announcement.Problem) {
	if before, ok := c.problems.Find(problem.Address); ok && before == problem {
		return
	}
	c.problems = c.problems.With(problem)
	what := unable
	if candidates := c.options[problem.Address].Candidates; len(candidates) > 0 && candidates[0] == c.node {
		what = hindered
	}
	c.journal.add(problem.Address, event{what, problem.Message})
}

// muteBy takes on which interfaces no heartbeat leaves, though peers are heard there or not, and
// reports whether that is news. Where heartbeats leave again the node has to listen first: others
// may answer for what it had there.
func (c *core) muteBy(boot time.Duration, unsent, unheard map[int]string) bool {
	before := c.unsent
	for _, failing := range []map[int]string{c.unsent, c.unheard} {
		for index := range failing {
			if unsent[index]+unheard[index] == "" {
				c.sight.Listen(boot)
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

// muted returns the problem of an address whose interfaces are all mute: peers take the node for
// down, and are to have the address if they can.
func (c *core) muted(o option) *announcement.Problem {
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
	return &announcement.Problem{Address: o.Address, Reason: reason.HeartbeatsNotSent, Message: why}
}

// hold keeps that the node answers as a says.
func (c *core) hold(now time.Time, a answer) {
	address := a.claim.Address
	before, held := c.claims.Find(address)
	claim := Claim{Address: address, Since: before.Since, List: a.claim.Stamp}
	if !held {
		claim.Since = now
		c.started[c.begun(address)]++
	}
	claim.Interfaces, claim.hardware = a.place()
	c.claims, c.claimed = c.claims.With(claim), c.claimed.With(a.claim)
	if claim.Interfaces != before.Interfaces || claim.hardware != before.hardware {
		c.schedule.start(address, now)
		c.journal.add(address, event{answering, claim.Interfaces})
	}
}

// end keeps that the node does not answer for address. Unless a problem says why, that is
// written down.
func (c *core) end(address netip.Addr, explained bool) {
	if !c.claims.Has(address) {
		return
	}
	c.claims, c.claimed = c.claims.Without(address), c.claimed.Without(address)
	c.schedule.stop(address)
	if explained {
		c.ended[endedProblem]++
		return
	}
	cause, text := c.lost(address)
	c.ended[cause]++
	c.journal.add(address, event{stopped, text})
}
