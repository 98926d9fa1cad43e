package announcer

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/internal/addressqueue"
	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// retryAfter is the least time between two tries to open a socket that failed.
const retryAfter = time.Second

// core is everything an announcer knows and the rules by which that changes. It is pure:
// its owner tells it what happened and when, and carries out what it returns.
//
// A turn goes through four steps, each of which looks only at addresses that something
// happened to: configure makes options of the plan and gives them to failover, which settles
// what is claimed; want makes ports of the claims; and applied takes what came of them,
// because what is reported has to be true. The last two go by portions, one in a turn.
type core struct {
	node string

	// nodePlan is the newest plan that was accepted, by this life or an earlier one, and
	// persisted what the announcer has to know of the latter.
	nodePlan  plan.NodePlan
	persisted persistedPlan
	// links is the newest state of the interfaces; nil until there is one.
	links     *netstate.Snapshot
	stopping  bool
	batchSize batchSize
	// retry reports whether a socket failed and must be opened at retryAt.
	retry     bool
	retryAt   time.Time
	lastRetry time.Time

	// health is whether the node serves traffic.
	health nodeHealth
	// conflicts are what other machines do with addresses.
	conflicts conflicts

	// options are what this node could do about each address of the plan, by what is in
	// configured.
	options    map[netip.Addr]option
	configured struct {
		links       *netstate.Snapshot
		failover    plan.Failover
		routers     []plan.BGPPeer
		assignments plan.Index[plan.Assignment]
		routes      []plan.Route
	}
	subnets        *subnets
	peerInterfaces peerInterfaces
	// rerouted reports whether other interfaces may lead to peers since paths were looked for.
	rerouted bool
	// unsent are, by the index of the interface, why no heartbeat leaves there though peers are
	// heard, and unheard the same where none is.
	unsent, unheard map[int]string
	// failing are the addresses for which no socket could be opened of late, and why.
	failing        map[netip.Addr]plan.Problem
	takeoverProbes unasked
	// reconsider are addresses whose options must be made again. Those that the plan did not have
	// before are urgent: a new leader makes the node carry out all lists anew, and a Service that
	// waits for a new address must not wait for that.
	reconsider addressqueue.Queue
	// failover knows which node claims which address.
	failover *failover.Node

	// bgp is how the sessions to routers fare, and routeGate the routes that they hear.
	bgp       bgp.State
	routeGate routeGate
	// nodeIPs are the Node's addresses, and identifier is the node's BGP Identifier, chosen once:
	// another one ends every session.
	nodeIPs    []netip.Addr
	identifier netip.Addr

	// touched are the addresses to carry out anew, and begin those of them, in order, that
	// the node will begin to answer for; desired is what to answer, and ports is that by
	// interface. Like every map that is emptied again and again, touched is made anew: one that
	// was large once takes as long to walk ever after.
	touched map[netip.Addr]bool
	begin   addressqueue.Queue
	// passed reports whether begin waited for others in the last turn.
	passed  bool
	desired map[netip.Addr]answer
	ports   ports

	// What follows is the state that was reached: failed is where sockets could not be
	// opened, listed are the problems as a list, and claimed the claims as they are reported.
	failed         failures
	claims         plan.Index[Claim]
	problems       plan.Index[plan.Problem]
	listed         []plan.Problem
	claimed        plan.Index[plan.Claim]
	appliedVersion plan.Version
	reported       plan.Report
	spoke          bool
	schedule       schedule
	// frames bounds what leaves the node unasked.
	frames        frames
	logAggregator *logAggregator
	// started and ended count claims by cause.
	started, ended map[string]uint64
	// terms bounds how fast the term grows, and implausible is the highest version refused.
	terms       terms
	implausible plan.Version
}

// newCore returns the core of node; boot names this life of it.
func newCore(node string, boot uint64) *core {
	return &core{
		node: node, batchSize: mostBatch, failover: failover.NewNode(node, boot), options: map[netip.Addr]option{}, peerInterfaces: peerInterfaces{},
		health: newNodeHealth(), conflicts: newConflicts(),
		failing: map[netip.Addr]plan.Problem{},
		touched: map[netip.Addr]bool{}, desired: map[netip.Addr]answer{}, ports: ports{},
		takeoverProbes: unasked{frames: newFrames()}, schedule: newSchedule(), frames: newFrames(), logAggregator: newLogAggregator(), started: map[string]uint64{}, ended: map[string]uint64{},
	}
}

// acceptPlanAt is offer for a plan that has just come. revoked reports whether the plan before
// was one of an authority that is no longer trusted.
func (c *core) acceptPlanAt(boot time.Duration, set plan.NodePlan) (revoked bool, err error) {
	revoked = plan.Overturns(c.nodePlan, set)
	if !c.terms.allowsTerm(boot, c.nodePlan, set) {
		err = &plan.ImplausibleError{Have: c.nodePlan.Version, Got: set.Version}
	} else {
		err = c.acceptPlan(set)
	}
	if _, ok := errors.AsType[*plan.ImplausibleError](err); ok && c.implausible.Compare(set.Version) < 0 {
		c.implausible = set.Version
	}
	return revoked && err == nil, err
}

// acceptPlan takes a plan, or says why not; see plan.Accept.
func (c *core) acceptPlan(set plan.NodePlan) error {
	accept := plan.Accept
	if c.persisted.unconfirmed {
		accept = plan.Supersede
	}
	if err := accept(c.nodePlan, set); err != nil {
		if stale, ok := errors.AsType[*plan.StaleError](err); ok && stale.Duplicate() && set.Voucher.Authority != "" {
			c.nodePlan.Voucher = set.Voucher // another authority may vouch for it now
		}
		return err
	}
	if c.nodePlan = set; c.persisted.unconfirmed {
		c.persisted = persistedPlan{}
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

// allowsTerm reports whether a plan may take the place of what is held, as far as terms go.
func (t *terms) allowsTerm(boot time.Duration, have, got plan.NodePlan) bool {
	if have.Version.IsZero() || have.Cluster != got.Cluster || plan.Overturns(have, got) {
		*t = terms{}
		return true
	}
	if got.Version.Term == have.Version.Term {
		return true
	}
	if !t.held || boot-t.at >= time.Minute {
		*t = terms{from: have.Version.Term, held: true, at: boot}
	}
	return got.Version.Term <= t.from+plan.MaxLeap
}

// setLinks takes the state of the interfaces. One that could not carry anything until now, or
// nothing of a family, has to be listened on first.
func (c *core) setLinks(boot time.Duration, links netstate.Snapshot) {
	var before *netstate.Snapshot
	before, c.links = c.links, &links
	if before == nil || !interfaceReturned(*before, links) {
		return
	}
	c.failover.Listen(boot)
}

// interfaceReturned reports whether an interface that was there carries addresses again, or those of
// one family. Those that lead to Pods do so with every Pod, and no peer is heard there.
func interfaceReturned(before, after netstate.Snapshot) bool {
	return slices.ContainsFunc(after.Report(), func(r plan.Interface) bool {
		i, _ := after.Find(r.Name)
		was, known := before.Find(r.Name)
		return known && i.Carries() == nil && (was.Carries() != nil || was.NoIPv4 && !i.NoIPv4 || was.NoIPv6 && !i.NoIPv6)
	})
}

// dropDesired makes the core want nothing from now on.
func (c *core) dropDesired() {
	c.stopping = true
	c.failover.Leave()
	for address := range c.options {
		c.touched[address] = true
	}
}

// configureFailover tells failover what plan and interfaces have come to: of some addresses, where very
// many are concerned, and of the others when it is called again.
func (c *core) configureFailover(boot time.Duration) {
	c.failover.Configure(boot, c.nodePlan.Failover)
	if c.links == nil {
		return
	}
	c.frames.pacing = c.nodePlan.Pacing.OrDefault()
	c.schedule.pacing, c.takeoverProbes.frames.pacing = c.frames.pacing, c.frames.pacing
	c.conflicts.setProbing(boot, c.nodePlan.Probing)
	c.startHealthChecks(boot)
	if c.subnetsChanged() {
		c.subnets, c.rerouted, c.health.changed = newSubnets(c.node, *c.links, c.nodePlan.Failover.Peers, c.nodePlan.BGP.Peers), true, true
		c.reconsiderAll()
	}
	for address := range plan.Delta(c.configured.assignments, c.nodePlan.Assignments) {
		if _, known := c.options[address]; known {
			c.reconsider.Add(address)
		} else {
			c.reconsider.AddUrgent(address)
		}
	}
	c.configured.links, c.configured.failover, c.configured.assignments = c.links, c.nodePlan.Failover, c.nodePlan.Assignments
	c.countRoutes(c.configured.routes, c.nodePlan.BGP.Routes)
	c.configured.routers, c.configured.routes = c.nodePlan.BGP.Peers, c.nodePlan.BGP.Routes
	for _, address := range c.reconsider.Take(int(c.batchSize)) {
		c.updateOption(boot, address)
	}
}

// reconsiderAll notes that all options must be made again.
func (c *core) reconsiderAll() { addressqueue.AddKeys(&c.reconsider, c.options) }

// subnetsChanged reports whether interfaces or peers are others than options were made by.
func (c *core) subnetsChanged() bool {
	before, now := c.configured.failover, c.nodePlan.Failover
	return c.subnets == nil || c.configured.links != c.links || !slices.Equal(c.configured.routers, c.nodePlan.BGP.Peers) ||
		before.TransmitInterval != now.TransmitInterval || !slices.EqualFunc(before.Peers, now.Peers, plan.Peer.Equal)
}

// updateOption makes the option of address.
func (c *core) updateOption(boot time.Duration, address netip.Addr) {
	c.touched[address] = true
	if before, known := c.options[address]; known {
		c.rerouted = c.peerInterfaces.countOption(before, -1) || c.rerouted
		c.health.countOption(before, -1)
		delete(c.options, address)
	}
	a, planned := c.nodePlan.Assignments.Find(address)
	if !planned {
		c.failover.Drop(address)
		return
	}
	o := c.subnets.optionFor(a)
	c.rerouted = c.peerInterfaces.countOption(o, 1) || c.rerouted
	if problem, ok := c.failing[address]; ok && o.problem == nil {
		o.problem = &problem
	}
	if o.problem == nil {
		o.mute = c.mutedProblem(o)
	}
	c.options[address] = o
	c.health.countOption(o, 1)
	c.failover.Put(boot, failover.List{
		Address: address, Version: o.Version, Candidates: o.Candidates, Former: o.Former, Proofs: o.Proofs, Able: o.problem == nil && !c.persisted.isWaiting(),
		Unconfirmed: c.persisted.unconfirmed, Ready: c.health.result.Ready(o.healthPort()), Mute: o.mute != nil,
	})
}

// growBatch takes how long a turn took.
func (c *core) growBatch(took time.Duration) {
	c.batchSize = c.batchSize.nextSize(took)
	c.failover.SetBatchSize(int(c.batchSize))
}

// reconcileClaims brings claims to what the rule says, and reports whether they changed.
func (c *core) reconcileClaims(boot time.Duration) bool {
	changed := c.failover.Reconcile(boot)
	for _, address := range changed {
		c.touched[address] = true
	}
	return len(changed) > 0
}

// reannounceLost has the LAN told again of what a peer may have told it too.
func (c *core) reannounceLost(now time.Time) {
	for _, address := range c.failover.TakeReannounce() {
		if c.claims.Has(address) {
			c.schedule.renewBurst(address, now)
		}
	}
}

// notifyPeers has the LAN told again of what is answered on interfaces.
func (c *core) notifyPeers(now time.Time, indexes map[int]bool) {
	if len(indexes) == 0 {
		return
	}
	for address, a := range c.desired {
		if c.claims.Has(address) && slices.ContainsFunc(a.interfaces, func(i netstate.Interface) bool { return indexes[i.Index] }) {
			c.schedule.renewBurst(address, now)
		}
	}
}

// socketFailed reports whether a socket that was open has failed.
func (c *core) socketFailed(now time.Time) {
	at := now
	if next := c.lastRetry.Add(retryAfter); next.After(at) {
		at = next
	}
	if !c.retry || at.Before(c.retryAt) {
		c.retry, c.retryAt = true, at
	}
}

// retryDue reports whether to open sockets again.
func (c *core) retryDue(now time.Time) bool { return c.retry && !c.retryAt.After(now) }

// retryNow lets sockets that failed be opened again.
func (c *core) retryNow() {
	addressqueue.AddKeys(&c.reconsider, c.failing)
	c.failing = map[netip.Addr]plan.Problem{}
}

// backupCount returns how many addresses of the plan others answer for.
func (c *core) backupCount() int {
	if c.stopping {
		return 0
	}
	return len(c.options) - c.claims.Len() - c.problems.Len()
}

// nextReport returns the node's whole state if it differs from what was last reported. There
// is nothing to say before the interfaces are known: a node without any could get no
// address.
func (c *core) nextReport() *plan.Report {
	if c.links == nil {
		return nil
	}
	r := plan.Report{
		Plan: c.appliedVersion, Highest: c.nodePlan.Version, Implausible: c.implausible, Cluster: c.nodePlan.Cluster,
		Claims: c.claimed, Problems: c.listed, Interfaces: c.reportedInterfaces(), Down: c.failover.Peers(failover.Down),
		Unhealthy: c.health.unhealthy,
		BGP:       plan.BGPReport{Plan: c.bgp.Plan, Withheld: c.bgp.Withheld},
		Probed:    c.conflicts.told, Findings: c.conflicts.listed,
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

// reportedInterfaces returns those that can carry addresses. Of an announcer that ends none can: so
// the cluster side gives its addresses to others without waiting for it to return.
func (c *core) reportedInterfaces() []plan.Interface {
	if c.stopping {
		return nil
	}
	return c.subnets.report
}

// wakeAt returns when the core wants to be woken without anything having happened, or the
// zero time.
func (c *core) wakeAt() time.Time {
	next, _ := c.schedule.firsts.Next()
	if repeat := c.schedule.nextRepeat(); !repeat.IsZero() {
		next = earlierTime(next, laterTime(repeat, c.frames.freeAt(1, c.reservedFrames())))
	}
	if c.retry {
		next = earlierTime(next, c.retryAt)
	}
	return earlierTime(next, c.logAggregator.nextDue())
}

// laterTime returns the later of two times, of which a zero one means at once.
func laterTime(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// earlierTime returns the earlier of two times, of which a zero one means never.
func earlierTime(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
