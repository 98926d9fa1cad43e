package announcer

import (
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/internal/backlog"
	"baremetal.cloud/ccm/pkg/announcer/link"
	"baremetal.cloud/ccm/pkg/announcer/sight"
)

// retryAfter is the least time between two tries to open a socket that failed.
const retryAfter = time.Second

// core is everything an announcer knows and the rules by which that changes. It is pure:
// its owner tells it what happened and when, and carries out what it returns.
//
// A turn goes through four steps, each of which looks only at addresses that something
// happened to: configure makes options of the plan and gives them to sight, which settles
// what is claimed; want makes ports of the claims; and applied takes what came of them,
// because what is reported has to be true. The last two go by portions, one in a turn.
type core struct {
	node string

	// set is the newest plan that was accepted, by this life or an earlier one, and kept
	// what is to be known of the latter.
	set  announcement.Set
	kept kept
	// links is the newest state of the interfaces; nil until there is one.
	links   *link.Snapshot
	leaving bool
	pace    pace
	// retry says that a socket failed and is to be opened at retryAt.
	retry     bool
	retryAt   time.Time
	lastRetry time.Time

	// fitness is whether the node serves traffic.
	fitness fitness
	// conflicts are what other machines do with addresses.
	conflicts conflicts

	// options are what this node could do about each address of the plan, by what is in
	// configured.
	options    map[netip.Addr]option
	configured struct {
		links         *link.Snapshot
		sight         announcement.Sight
		routers       []announcement.BGPPeer
		announcements announcement.Index[announcement.Announcement]
		routes        []announcement.Route
	}
	segments *segments
	carriers carriers
	// rerouted says that other interfaces may lead to peers since paths were looked for.
	rerouted bool
	// failing are the addresses for which no socket could be opened of late, and why.
	failing map[netip.Addr]announcement.Problem
	// reconsider are addresses whose options are to be made again. Those that the plan did not
	// have before are urgent: a new leader has all lists carried out anew, and who waits for a
	// new address is not to wait for that.
	reconsider backlog.Backlog
	// sight knows who claims what.
	sight *sight.Core

	// bgp is how the sessions to routers fare, and released the routes that they are told.
	bgp      bgp.State
	released released

	// touched are the addresses to carry out anew, and begin those of them, in order, that
	// the node will begin to answer for; wants is what is to be answered, and ports is that by
	// interface. Like every map that is emptied again and again, touched is
	// made anew: one that was large once takes as long to walk ever after.
	touched map[netip.Addr]bool
	begin   backlog.Backlog
	// passed says that begin waited for others in the last turn.
	passed bool
	wants  map[netip.Addr]answer
	ports  ports

	// What follows is the state that was reached: failed is where sockets could not be
	// opened, listed are the problems as a list, and claimed the claims as they are told.
	failed   failures
	claims   announcement.Index[Claim]
	problems announcement.Index[announcement.Problem]
	listed   []announcement.Problem
	claimed  announcement.Index[announcement.Claim]
	plan     announcement.Stamp
	reported announcement.Report
	spoke    bool
	schedule schedule
	journal  *journal
	// started and ended count claims by cause.
	started, ended map[string]uint64
}

// newCore returns the core of node; boot names this life of it.
func newCore(node string, boot uint64) *core {
	return &core{
		node: node, pace: mostPace, sight: sight.NewCore(node, boot), options: map[netip.Addr]option{}, carriers: carriers{},
		fitness: newFitness(), conflicts: newConflicts(),
		failing: map[netip.Addr]announcement.Problem{},
		touched: map[netip.Addr]bool{}, wants: map[netip.Addr]answer{}, ports: ports{},
		schedule: newSchedule(), journal: newJournal(), started: map[string]uint64{}, ended: map[string]uint64{},
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
	if c.set = set; c.kept.unconfirmed {
		c.kept = kept{}
		c.reconsiderAll()
	}
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
	for address := range c.options {
		c.touched[address] = true
	}
}

// configure tells sight what plan and interfaces have come to: of some addresses, where very
// many are concerned, and of the others when it is called again.
func (c *core) configure(boot time.Duration) {
	c.sight.Configure(boot, c.set.Sight)
	if c.links == nil {
		return
	}
	c.conflicts.set(boot, c.set.Probing)
	c.expect(boot)
	if c.resegmented() {
		c.segments, c.rerouted, c.fitness.changed = newSegments(*c.links, c.set.Sight.Peers, c.set.BGP.Peers), true, true
		c.reconsiderAll()
	}
	for address := range announcement.Changes(c.configured.announcements, c.set.Announcements) {
		if _, known := c.options[address]; known {
			c.reconsider.Add(address)
		} else {
			c.reconsider.AddUrgent(address)
		}
	}
	c.configured.links, c.configured.sight, c.configured.announcements = c.links, c.set.Sight, c.set.Announcements
	c.countRoutes(c.configured.routes, c.set.BGP.Routes)
	c.configured.routers, c.configured.routes = c.set.BGP.Peers, c.set.BGP.Routes
	for _, address := range c.reconsider.Take(int(c.pace)) {
		c.consider(boot, address)
	}
}

// reconsiderAll has all options made again.
func (c *core) reconsiderAll() { backlog.AddKeys(&c.reconsider, c.options) }

// resegmented says that interfaces or peers are others than options were made by.
func (c *core) resegmented() bool {
	before, now := c.configured.sight, c.set.Sight
	return c.segments == nil || c.configured.links != c.links || !slices.Equal(c.configured.routers, c.set.BGP.Peers) ||
		before.TransmitInterval != now.TransmitInterval || !slices.EqualFunc(before.Peers, now.Peers, announcement.Peer.Equal)
}

// consider makes the option of address.
func (c *core) consider(boot time.Duration, address netip.Addr) {
	c.touched[address] = true
	if before, known := c.options[address]; known {
		c.rerouted = c.carriers.add(before, -1) || c.rerouted
		c.fitness.count(before, -1)
		delete(c.options, address)
	}
	a, planned := c.set.Announcements.Find(address)
	if !planned {
		c.sight.Drop(address)
		return
	}
	o := c.segments.option(a)
	c.rerouted = c.carriers.add(o, 1) || c.rerouted
	if problem, ok := c.failing[address]; ok && o.problem == nil {
		o.problem = &problem
	}
	c.options[address] = o
	c.fitness.count(o, 1)
	c.sight.Put(boot, sight.List{
		Address: address, Stamp: o.Stamp, Candidates: o.Candidates, Fit: o.problem == nil && !c.kept.waits(),
		Unconfirmed: c.kept.unconfirmed, Ready: c.fitness.result.Ready(o.healthPort()),
	})
}

// hasten takes how long a turn took.
func (c *core) hasten(took time.Duration) {
	c.pace = c.pace.after(took)
	c.sight.Pace(int(c.pace))
}

// settle brings claims to what the rule says, and reports whether they changed.
func (c *core) settle(boot time.Duration) bool {
	changed := c.sight.Settle(boot)
	for _, address := range changed {
		c.touched[address] = true
	}
	return len(changed) > 0
}

// regain has the LAN told again of what a peer may have told it too.
func (c *core) regain(now time.Time) {
	for _, address := range c.sight.Regained() {
		if c.claims.Has(address) {
			c.schedule.renew(address, now)
		}
	}
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
func (c *core) retryNow() {
	backlog.AddKeys(&c.reconsider, c.failing)
	c.failing = map[netip.Addr]announcement.Problem{}
}

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
		problem = o.problem // Also of one that stands by: the cluster side is to know before it matters.
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

// standby returns how many addresses of the plan others answer for.
func (c *core) standby() int {
	if c.leaving {
		return 0
	}
	return len(c.options) - c.claims.Len() - c.problems.Len()
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
		Claims: c.claimed, Problems: c.listed, Interfaces: c.interfaces(), Down: c.sight.Peers(sight.Down),
		Unwell: c.fitness.unwell,
		BGP:    announcement.BGPReport{Plan: c.bgp.Plan, Withheld: c.bgp.Withheld},
		Probed: c.conflicts.probed, Findings: c.conflicts.findings(),
	}
	for _, s := range c.bgp.Sessions {
		r.BGP.Sessions = append(r.BGP.Sessions, s.BGPSession)
	}
	if c.spoke && r.Equal(c.reported) {
		return nil
	}
	c.spoke, c.reported = true, r
	return &r
}

// interfaces returns those that can carry addresses. Of an announcer that ends none can: so
// the cluster side gives its addresses to others without waiting for it to return.
func (c *core) interfaces() []announcement.Interface {
	if c.leaving {
		return nil
	}
	return c.segments.report
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
