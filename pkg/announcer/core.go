package announcer

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/health"
	"baremetal.cloud/ccm/pkg/announcer/link"
	"baremetal.cloud/ccm/pkg/announcer/sight"
	"baremetal.cloud/ccm/pkg/reason"
)

// retryAfter is the least time between two tries to open a socket that failed.
const retryAfter = time.Second

// core is everything an announcer knows and the rules by which that changes. It is pure:
// its owner tells it what happened and when, and carries out what it returns.
//
// A turn has two halves, because what is claimed has to be true: wanted says what to
// answer, and applied takes what came of it.
type core struct {
	node string

	// set is the newest plan that was accepted, by this life or an earlier one, and kept
	// what is to be known of the latter.
	set  announcement.Set
	kept kept
	// links is the newest state of the interfaces; nil until there is one.
	links   *link.Snapshot
	leaving bool
	// retry says that a socket failed and is to be opened at retryAt.
	retry     bool
	retryAt   time.Time
	lastRetry time.Time

	// fitness is whether the node serves traffic.
	fitness fitness

	// sight knows who claims what, and options what this node could claim; failing are the
	// addresses for which no socket could be opened of late, and why.
	sight   *sight.Core
	options []option
	failing map[netip.Addr]announcement.Problem

	// What follows is the state that was reached.
	decision decision
	claims   map[netip.Addr]holding
	plan     announcement.Stamp
	reported announcement.Report
	spoke    bool
	schedule schedule
	journal  *journal
}

// holding is a claim as it is carried out.
type holding struct {
	claim announcement.Claim
	// since is when the node began to answer for the address without a break.
	since time.Time
	// where names the interfaces, and hardware tells them and their addresses apart from
	// others of the same names.
	where, hardware string
}

// newCore returns the core of node; boot names this life of it.
func newCore(node string, boot uint64) *core {
	return &core{
		node: node, sight: sight.NewCore(node, boot), failing: map[netip.Addr]announcement.Problem{},
		fitness: fitness{result: health.Result{Works: true}},
		claims:  map[netip.Addr]holding{}, schedule: newSchedule(), journal: newJournal(),
	}
}

// offer takes a plan, or says why not; see announcement.Accept.
func (c *core) offer(set announcement.Set) error {
	accept := announcement.Accept
	if c.kept.unconfirmed {
		accept = announcement.Supersede
	}
	if err := accept(c.set, set); err != nil {
		return err
	}
	c.set, c.kept = set, kept{}
	return nil
}

// see takes the state of the interfaces. One that could not carry anything until now has
// to be listened on first.
func (c *core) see(boot time.Duration, links link.Snapshot) {
	var before *link.Snapshot
	before, c.links = c.links, &links
	if before == nil || !returned(*before, links) {
		return
	}
	c.sight.Listen(boot)
}

// returned says whether an interface that was there carries addresses again.
func returned(before, after link.Snapshot) bool {
	return slices.ContainsFunc(after.Interfaces, func(i link.Interface) bool {
		was, known := before.Find(i.Name)
		return known && was.Carries() != nil && i.Carries() == nil
	})
}

// leave makes the core want nothing any more.
func (c *core) leave() {
	c.leaving = true
	c.sight.Leave()
}

// configure tells sight what plan and interfaces have come to.
func (c *core) configure(boot time.Duration) {
	c.options = nil
	if c.links != nil {
		c.options = options(c.set, *c.links)
	}
	c.fitness.expect(boot, c.healthTargets(), c.set.Health.UnwellAfter)
	lists := make([]sight.List, 0, len(c.options))
	for i, o := range c.options {
		if problem, ok := c.failing[o.Address]; ok && o.problem == nil {
			c.options[i].problem = &problem
		}
		lists = append(lists, sight.List{
			Address: o.Address, Stamp: o.Stamp, Candidates: o.Candidates,
			Fit: c.options[i].problem == nil && !c.kept.waits(), Unconfirmed: c.kept.unconfirmed,
			Ready: c.fitness.result.Ready(o.healthPort()),
		})
	}
	c.sight.Configure(boot, lists, c.set.Sight)
}

// socketFailed says that a socket that was open has failed.
func (c *core) socketFailed(now time.Time) {
	at := now
	if next := c.lastRetry.Add(retryAfter); next.After(at) {
		at = next
	}
	if !c.retry || at.Before(c.retryAt) {
		c.retry, c.retryAt = true, at
	}
}

// retryDue reports whether sockets are to be opened again.
func (c *core) retryDue(now time.Time) bool { return c.retry && !c.retryAt.After(now) }

// retryNow lets sockets that failed be opened again.
func (c *core) retryNow() { clear(c.failing) }

// wanted returns what is to be answered.
func (c *core) wanted() decision {
	if c.leaving || c.links == nil {
		return decision{}
	}
	return decide(c.node, c.options, c.sight.Claim)
}

// applied takes what came of wanted: failed says where no socket could be opened. The
// report is nil unless there is something new to say.
func (c *core) applied(now time.Time, wanted decision, failed failures) *announcement.Report {
	c.retry = len(c.failing) > 0
	c.lastRetry = now
	for _, byIndex := range failed {
		if len(byIndex) > 0 && !c.retry {
			c.retry, c.retryAt = true, now.Add(retryAfter)
		}
	}
	reached := wanted.without(failed)
	for _, p := range reached.problems {
		if p.Reason == reason.SocketFailed {
			c.failing[p.Address] = p
		}
	}
	c.note(reached)
	c.hold(now, reached)
	c.decision = reached
	if c.links != nil && !c.kept.waits() {
		c.plan = c.set.Stamp
	}
	return c.report()
}

// hold brings the claims to what was reached.
func (c *core) hold(now time.Time, reached decision) {
	answers := make(map[netip.Addr]answer, len(reached.answers))
	var want []announcement.Claim
	for _, a := range reached.answers {
		answers[a.claim.Address] = a
		want = append(want, a.claim)
	}
	for _, action := range announcement.Diff(c.held(), want) {
		address := action.Claim.Address
		switch action.Verb {
		case announcement.Stop:
			delete(c.claims, address)
			c.schedule.stop(address)
		case announcement.Restamp:
			h := c.claims[address]
			h.claim = action.Claim
			c.claims[address] = h
		case announcement.Start:
			c.claims[address] = holding{claim: action.Claim, since: now}
		}
	}
	for address, a := range answers {
		h := c.claims[address]
		where, hardware := a.place()
		if h.where == where && h.hardware == hardware {
			continue
		}
		h.where, h.hardware = where, hardware
		c.claims[address] = h
		c.schedule.start(address, now)
		c.journal.add(address, event{answering, where})
	}
}

// note writes down which claims end, and which problems are new.
func (c *core) note(reached decision) {
	problems := make(map[netip.Addr]announcement.Problem, len(reached.problems))
	for _, p := range reached.problems {
		problems[p.Address] = p
		if !slices.Contains(c.decision.problems, p) {
			c.journal.add(p.Address, event{hindered, p.Message})
		}
	}
	kept := make(map[netip.Addr]bool, len(reached.answers))
	for _, a := range reached.answers {
		kept[a.claim.Address] = true
	}
	for address := range c.claims {
		if _, hindered := problems[address]; hindered || kept[address] {
			continue
		}
		why := "the announcer ends"
		if !c.leaving {
			a, planned := c.set.Find(address)
			why = c.lost(a, planned)
		}
		c.journal.add(address, event{stopped, why})
	}
}

// held returns the claims, sorted by address.
func (c *core) held() []announcement.Claim {
	claims := make([]announcement.Claim, 0, len(c.claims))
	for _, address := range slices.SortedFunc(maps.Keys(c.claims), netip.Addr.Compare) {
		claims = append(claims, c.claims[address].claim)
	}
	return claims
}

// report returns the node's whole state if it differs from what was last reported. There
// is nothing to say before the interfaces are known: a node without any could get no
// address.
func (c *core) report() *announcement.Report {
	if c.links == nil {
		return nil
	}
	r := announcement.Report{
		Plan: c.plan, Highest: c.set.Stamp, Cluster: c.set.Cluster,
		Claims: c.held(), Problems: c.decision.problems, Interfaces: c.carriers(), Down: c.sight.Peers(sight.Down),
		Unwell: c.fitness.unwell,
	}
	if c.spoke && reflect.DeepEqual(r, c.reported) {
		return nil
	}
	c.spoke, c.reported = true, r
	return &r
}

// carriers returns the interfaces that can carry addresses. Of an announcer that ends none
// can: so the cluster side gives its addresses to others without waiting for it to return.
func (c *core) carriers() []announcement.Interface {
	if c.leaving {
		return nil
	}
	return c.links.Report()
}

// wake returns when the core wants to be woken without anything having happened, or the
// zero time.
func (c *core) wake() time.Time {
	next := c.schedule.next()
	if c.retry {
		next = earlier(next, c.retryAt)
	}
	return earlier(next, c.journal.next())
}

// earlier returns the earlier of two times, of which a zero one means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// place returns the names of a's interfaces, and a text that changes when one of them is
// another or has another hardware address.
func (a answer) place() (where, hardware string) {
	var names, details []string
	for _, i := range a.interfaces {
		names = append(names, i.Name)
		details = append(details, fmt.Sprint(i.Index, " ", i.MAC))
	}
	return strings.Join(names, ", "), strings.Join(details, ",")
}
