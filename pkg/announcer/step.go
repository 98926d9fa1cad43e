package announcer

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// step takes in what happened, and does what is due; boot is the time of package failover.
func (a *Announcer) step(now time.Time, boot time.Duration, n events) {
	began := a.clock()
	a.checkStall(boot, &n)
	until := a.core.failover.Deadline()
	changed := a.acceptPlans(boot, n.plans)
	if a.core.resumePlan(boot) {
		a.log.Warn("no plan from baremetal-ccm; carrying out the one that was kept", "plan", a.core.nodePlan.Version)
		changed = true
	}
	if n.links != nil {
		a.core.setLinks(boot, *n.links)
		changed = true
	}
	if n.socketFailed {
		a.core.socketFailed(now)
	}
	if n.health != nil {
		a.core.setHealth(*n.health)
		changed = true
	}
	changed = a.updateMuted(now, boot) || changed
	retry := a.core.retryDue(now)
	if retry {
		a.core.retryNow()
	}
	if changed || retry || a.core.reconsider.Len() > 0 {
		a.core.configureFailover(boot)
	}
	changed = a.updateHealth(boot) || changed
	if due := a.core.routeGate.nextDue(); changed || due != 0 && boot >= due {
		a.updateBGP(boot)
	}
	heard := n.bgp != nil
	if heard {
		a.core.bgp = *n.bgp
	}
	defend, found := a.takeConflicts(now, boot, n)
	if a.core.rerouted || n.peersFailed || a.transport.retryAt != 0 && boot >= a.transport.retryAt {
		a.updateTransport(boot)
	}
	a.acceptPackets(boot, n.packets)
	if a.core.health.changed && a.options.Ask != nil {
		a.options.Ask(a.core.healthTargets())
	}
	a.takePeerAnnouncements(boot, n.claims)
	for _, p := range n.probes {
		a.core.failover.SetProbeResults(boot, p.asked, p.answered)
	}
	if settled := a.core.reconcileClaims(boot); settled || changed || retry || a.core.hasPending() || a.core.isLate() {
		a.applyState(now, boot)
	} else if heard || found || a.core.failover.Counts() != a.status.Load().Peers {
		a.publishResult(a.core.nextReport())
	}
	if end := boot + a.clock() - began; until != 0 && end >= until {
		a.restartNode(end)
	} else {
		a.transport.sendHeartbeats(end, a.core.failover)
	}
	for _, address := range a.core.failover.TakeProbes() {
		a.core.takeoverProbes.Add(address)
	}
	a.probeForTakeover(a.core.takeUnasked(boot, now))
	a.core.reannounceLost(now)
	a.core.notifyPeers(now, n.again)
	a.reannounceNow(now)
	a.probeAhead(now, boot)
	a.defendAddresses(now, defend)
	a.announceDue(now)
	a.writeLog(a.core.logAggregator.takeDue(now, a.core.appliedVersion.String()))
	a.core.growBatch(a.clock() - began)
}

// updateHealth says whether the node has become unhealthy, or well again, and tells peers.
func (a *Announcer) updateHealth(boot time.Duration) bool {
	unhealthy, news := a.core.health.judgeHealth(boot)
	if !news {
		return false
	}
	if unhealthy {
		a.log.Warn("kube-proxy of this node does not work; others are to answer for its addresses", "asked", a.core.health.proxy)
	} else {
		a.log.Info(a.core.health.recovery(), "asked", a.core.health.proxy)
	}
	a.core.failover.SetUnhealthy(boot, unhealthy)
	return true
}

// updateMuted looks whether heartbeats have begun or ceased to leave by an interface, and reports
// whether that is so.
func (a *Announcer) updateMuted(now time.Time, boot time.Duration) bool {
	unsent, unheard := a.transport.muteInterfaces(boot, a.core.failover)
	if len(unheard) > 0 {
		a.logLimit.Log(a.log, now, slog.LevelWarn, "mute", "heartbeats cannot be sent, and none is heard; this node keeps what it answers for", "errors", slices.Sorted(maps.Values(unheard)))
	}
	if !a.core.muteBy(boot, unsent, unheard) {
		return false
	}
	if len(unsent) > 0 {
		a.log.Warn("peers do not hear this node; others that are able have its addresses of these interfaces", "errors", slices.Sorted(maps.Values(unsent)))
	} else {
		a.log.Info("heartbeats leave by every interface, or no peer is heard")
	}
	return true
}

// updateBGP has routers told what plan and interfaces have come to.
func (a *Announcer) updateBGP(boot time.Duration) {
	if desired, ok := a.core.bgpDesired(boot); ok && a.options.Speaker != nil {
		a.options.Speaker.Set(desired)
	}
}

// checkStall looks whether the process slept for so long that peers took it for down. Then what
// they said meanwhile does not count, and it begins anew.
func (a *Announcer) checkStall(boot time.Duration, n *events) {
	if a.core.failover.Overslept(boot) {
		n.packets = nil
		a.restartNode(boot)
	}
}

// restartNode begins anew after peers took the node for down.
func (a *Announcer) restartNode(boot time.Duration) {
	a.log.Warn("this process did not run for longer than peers wait; it answers for nothing until it has listened")
	a.core.failover.Restart(boot, newIncarnation())
}

// updateTransport brings the sockets to peers up to date.
func (a *Announcer) updateTransport(boot time.Duration) {
	if err := a.transport.setPeers(boot, a.core); err != nil {
		a.log.Warn("peers cannot be watched everywhere; it is tried again", "error", err)
	}
}

// acceptPackets takes what peers said.
func (a *Announcer) acceptPackets(boot time.Duration, packets []failover.Arrival) {
	a.transport.countHeard(boot, a.core.failover)
	for _, p := range packets {
		p.Unhealthy = a.core.trustsUnhealthy(boot, p.Packet)
		err := a.core.failover.Receive(boot, p.Packet)
		if err != nil {
			a.transport.network.Drop(err)
		}
		a.transport.followPeer(p, err)
	}
}

// acceptPlans offers plans to the core and reports whether one was taken.
func (a *Announcer) acceptPlans(boot time.Duration, plans map[string]plan.NodePlan) bool {
	taken, revoked, before, voucher := false, false, a.core.nodePlan.Cluster, a.core.nodePlan.Voucher.Authority
	for replica, set := range plans {
		void, err := a.core.acceptPlanAt(boot, set)
		if err == nil {
			taken, revoked = true, revoked || void
			delete(a.told, replica)
			continue
		}
		a.refusePlan(replica, err)
	}
	if !taken {
		if a.options.Keeper != nil && a.core.nodePlan.Voucher.Authority != voucher {
			a.options.Keeper.Keep(a.core.nodePlan)
		}
		return false
	}
	if revoked {
		a.log.Warn("the plan held was accepted from a replica whose authority is revoked; it does not count any more", "plan", a.core.nodePlan.Version)
		a.core.failover.Restart(boot, newIncarnation()) // Its versions are above those of the leader.
	}
	if before != "" && before != a.core.nodePlan.Cluster {
		a.log.Warn("the plan that was kept is another cluster's and is discarded", "kept", before, "cluster", a.core.nodePlan.Cluster)
		a.core.failover.Restart(boot, newIncarnation()) // Its versions mean nothing here.
	}
	if a.options.Keeper != nil {
		a.options.Keeper.Keep(a.core.nodePlan)
	}
	return true
}

// applyState makes the sockets answer what the core wants, as far as a portion goes, and
// reports what was reached. Before peers hear of anything, the node ceases to answer for what it
// no longer claims.
func (a *Announcer) applyState(now time.Time, boot time.Duration) {
	waiting := a.core.reconsider.Len()
	a.applyBatch(now)
	if a.core.reconsider.Len() > waiting {
		// Peers are not to hear claims to what cannot be answered. What else ends now ends first.
		a.core.configureFailover(boot)
		a.core.reconcileClaims(boot)
		a.applyBatch(now)
	}
	a.publishResult(a.core.nextReport())
}

// applyBatch makes the sockets answer what the core wants of a portion.
func (a *Announcer) applyBatch(now time.Time) {
	addresses := a.core.nextBatch()
	a.core.setDesired(addresses)
	a.core.commitApplied(now, addresses, a.applyPorts())
}

// applyPorts makes the sockets answer what the core wants, and says what failed.
func (a *Announcer) applyPorts() failures {
	failed := failures{}
	for f, r := range a.responders {
		failed[f] = r.Apply(a.core.ports.portsOf(f))
	}
	a.listenFor()
	return failed
}

// publishResult makes what was reached known.
func (a *Announcer) publishResult(report *plan.Report) {
	a.publishStatus()
	if report != nil {
		a.options.Report(*report)
	}
}

// announceDue sends announcements that are due: some, and the others with the next turns. All
// addresses are announced in one form before any is in another, unless that takes long. What is
// not the first announcement of an address that the node has begun to answer for waits until
// frames leave room.
func (a *Announcer) announceDue(now time.Time) {
	c := a.core
	most := c.batchSize.applySize()
	first := c.schedule.takeFirst(now, most)
	c.schedule.putOff(now, a.announceFirstForm(now, first))
	if a.withheld.IsZero() {
		a.withheld = now
	}
	if (len(first) == most || c.hasPending()) && now.Sub(a.withheld) < c.frames.pacing.Interval {
		return
	}
	otherwise := a.otherwise.Take(min(most, c.frames.roomFor(now, c.reservedFrames())))
	c.frames.spendFrames(now, len(otherwise))
	for f, addresses := range byFamily(otherwise) {
		if err := a.responders[f].AnnounceOtherwise(addresses); err != nil {
			a.logLimit.Log(a.log, now, slog.LevelWarn, "announce otherwise", "announcing addresses in the other form failed; it is repeated", "addresses", len(addresses), "error", err)
		}
	}
	a.announceFirstForm(now, c.schedule.takeRepeats(now, min(most-len(first), c.frames.roomFor(now, c.reservedFrames()))))
	if a.otherwise.Len() == 0 {
		a.withheld = time.Time{}
	}
}

// announceFirstForm announces addresses in the form that most hosts heed, and has those that
// there are others for wait for these. It returns those that could not leave for want of room.
func (a *Announcer) announceFirstForm(now time.Time, addresses []netip.Addr) (unsent []netip.Addr) {
	a.core.frames.spendFrames(now, len(addresses))
	for f, of := range byFamily(addresses) {
		left, err := a.responders[f].Announce(of)
		if unsent = append(unsent, left...); err != nil {
			a.logLimit.Log(a.log, now, slog.LevelWarn, "announce", "announcing addresses failed; it is repeated", "addresses", len(of), "error", err)
		}
		if f != ipv4 {
			continue
		}
		for _, address := range of {
			a.otherwise.Add(address)
		}
	}
	return unsent
}

func byFamily(addresses []netip.Addr) map[family][]netip.Addr {
	out := map[family][]netip.Addr{}
	for _, address := range addresses {
		out[familyOf(address)] = append(out[familyOf(address)], address)
	}
	return out
}

func (a *Announcer) writeLog(lines []line) {
	for _, l := range lines {
		a.log.Log(context.Background(), l.level, l.text)
	}
}
