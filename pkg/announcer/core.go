package announcer

import (
	"errors"
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
	// unsent are, by the index of the interface, why no heartbeat leaves there though peers are
	// heard, and unheard the same where none is.
	unsent, unheard map[int]string
	// failing are the addresses for which no socket could be opened of late, and why.
	failing map[netip.Addr]announcement.Problem
	unasked unasked
	// reconsider are addresses whose options are to be made again. Those that the plan did not
	// have before are urgent: a new leader has all lists carried out anew, and who waits for a
	// new address is not to wait for that.
	reconsider backlog.Backlog
	// sight knows who claims what.
	sight *sight.Core

	// bgp is how the sessions to routers fare, and released the routes that they are told.
	bgp      bgp.State
	released released
	// nodeIPs are the Node's addresses, and identifier is the node's BGP Identifier, chosen once:
	// another one ends every session.
	nodeIPs    []netip.Addr
	identifier netip.Addr

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
	// frames bounds what leaves the node unasked.
	frames  frames
	journal *journal
	// started and ended count claims by cause.
	started, ended map[string]uint64
	// terms bounds how fast the term grows, and implausible is the highest stamp refused.
	terms       terms
	implausible announcement.Stamp
}

// newCore returns the core of node; boot names this life of it.
func newCore(node string, boot uint64) *core {
	return &core{
		node: node, pace: mostPace, sight: sight.NewCore(node, boot), options: map[netip.Addr]option{}, carriers: carriers{},
		fitness: newFitness(), conflicts: newConflicts(),
		failing: map[netip.Addr]announcement.Problem{},
		touched: map[netip.Addr]bool{}, wants: map[netip.Addr]answer{}, ports: ports{},
		unasked: unasked{frames: newFrames()}, schedule: newSchedule(), frames: newFrames(), journal: newJournal(), started: map[string]uint64{}, ended: map[string]uint64{},
	}
}

// offerAt is offer for a plan that has just come. revoked reports whether the plan before
// was one of an authority that is not trusted any longer.
func (c *core) offerAt(boot time.Duration, set announcement.Set) (revoked bool, err error) {
	revoked = announcement.Overturns(c.set, set)
	if !c.terms.allow(boot, c.set, set) {
		err = &announcement.ImplausibleError{Have: c.set.Stamp, Got: set.Stamp}
	} else {
		err = c.offer(set)
	}
	if _, ok := errors.AsType[*announcement.ImplausibleError](err); ok && c.implausible.Compare(set.Stamp) < 0 {
		c.implausible = set.Stamp
	}
	return revoked && err == nil, err
}

// offer takes a plan, or says why not; see announcement.Accept.
func (c *core) offer(set announcement.Set) error {
	accept := announcement.Accept
	if c.kept.unconfirmed {
		accept = announcement.Supersede
	}
	if err := accept(c.set, set); err != nil {
		if stale, ok := errors.AsType[*announcement.StaleError](err); ok && stale.Duplicate() && set.Voucher.Authority != "" {
			c.set.Voucher = set.Voucher // another authority may vouch for it now
		}
		return err
	}
	if c.set = set; c.kept.unconfirmed {
		c.kept = kept{}
		c.reconsiderAll()
	}
	return nil
}

// terms bounds how far the term that is held may grow in a minute.
type terms struct {
	from uint64        // the term that was held then
	held bool          // whether from counts
	at   time.Duration // when
}

// allow reports whether a plan may take the place of what is held, as far as terms go.
func (t *terms) allow(boot time.Duration, have, got announcement.Set) bool {
	if have.Stamp.IsZero() || have.Cluster != got.Cluster || announcement.Overturns(have, got) {
		*t = terms{}
		return true
	}
	if got.Stamp.Term == have.Stamp.Term {
		return true
	}
	if !t.held || boot-t.at >= time.Minute {
		*t = terms{from: have.Stamp.Term, held: true, at: boot}
	}
	return got.Stamp.Term <= t.from+announcement.MaxLeap
}

// see takes the state of the interfaces. One that could not carry anything until now, or
// nothing of a family, has to be listened on first.
func (c *core) see(boot time.Duration, links link.Snapshot) {
	var before *link.Snapshot
	before, c.links = c.links, &links
	if before == nil || !returned(*before, links) {
		return
	}
	c.sight.Listen(boot)
}

// returned reports whether an interface that was there carries addresses again, or those of
// one family. Those that lead to Pods do so with every Pod, and nobody is heard there.
func returned(before, after link.Snapshot) bool {
	return slices.ContainsFunc(after.Report(), func(r announcement.Interface) bool {
		i, _ := after.Find(r.Name)
		was, known := before.Find(r.Name)
		return known && i.Carries() == nil && (was.Carries() != nil || was.NoIPv4 && !i.NoIPv4 || was.NoIPv6 && !i.NoIPv6)
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
	c.frames.pacing = c.set.Pacing.OrDefault()
	c.schedule.pacing, c.unasked.frames.pacing = c.frames.pacing, c.frames.pacing
	c.conflicts.set(boot, c.set.Probing)
	c.expect(boot)
	if c.resegmented() {
		c.segments, c.rerouted, c.fitness.changed = newSegments(c.node, *c.links, c.set.Sight.Peers, c.set.BGP.Peers), true, true
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
	if o.problem == nil {
		o.mute = c.muted(o)
	}
	c.options[address] = o
	c.fitness.count(o, 1)
	c.sight.Put(boot, sight.List{
		Address: address, Stamp: o.Stamp, Candidates: o.Candidates, Former: o.Former, Proofs: o.Proofs, Fit: o.problem == nil && !c.kept.waits(),
		Unconfirmed: c.kept.unconfirmed, Ready: c.fitness.result.Ready(o.healthPort()), Mute: o.mute != nil,
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

// notifyPeers has the LAN told again of what is answered on interfaces.
func (c *core) notifyPeers(now time.Time, indexes map[int]bool) {
	if len(indexes) == 0 {
		return
	}
	for address, a := range c.wants {
		if c.claims.Has(address) && slices.ContainsFunc(a.interfaces, func(i link.Interface) bool { return indexes[i.Index] }) {
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
		Plan: c.plan, Highest: c.set.Stamp, Implausible: c.implausible, Cluster: c.set.Cluster,
		Claims: c.claimed, Problems: c.listed, Interfaces: c.interfaces(), Down: c.sight.Peers(sight.Down),
		Unwell: c.fitness.unwell,
		BGP:    announcement.BGPReport{Plan: c.bgp.Plan, Withheld: c.bgp.Withheld},
		Probed: c.conflicts.told, Findings: c.conflicts.listed,
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
	next, _ := c.schedule.firsts.Next()
	if repeat := c.schedule.nextRepeat(); !repeat.IsZero() {
		next = earlier(next, later(repeat, c.frames.free(1, c.reserved())))
	}
	if c.retry {
		next = earlier(next, c.retryAt)
	}
	return earlier(next, c.journal.next())
}

// later returns the later of two times, of which a zero one means at once.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// earlier returns the earlier of two times, of which a zero one means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
