package announcer

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/sight"
)

// turn takes in what happened, and does what is due; boot is the time of package sight.
func (a *Announcer) turn(now time.Time, boot time.Duration, n news) {
	began := a.clock()
	a.wake(boot, &n)
	until := a.core.sight.Deadline()
	changed := a.accept(boot, n.plans)
	if a.core.resume(boot) {
		a.log.Warn("no plan from baremetal-ccm; carrying out the one that was kept", "plan", a.core.set.Stamp)
		changed = true
	}
	if n.links != nil {
		a.core.see(boot, *n.links)
		changed = true
	}
	if n.socketFailed {
		a.core.socketFailed(now)
	}
	if n.health != nil {
		a.core.heal(*n.health)
		changed = true
	}
	changed = a.mute(now, boot) || changed
	retry := a.core.retryDue(now)
	if retry {
		a.core.retryNow()
	}
	if changed || retry || a.core.reconsider.Len() > 0 {
		a.core.configure(boot)
	}
	changed = a.judge(boot) || changed
	if due := a.core.released.due(); changed || due != 0 && boot >= due {
		a.speak(boot)
	}
	heard := n.bgp != nil
	if heard {
		a.core.bgp = *n.bgp
	}
	defend, found := a.hear(now, boot, n)
	if a.core.rerouted || n.peersFailed || a.neighbours.retryAt != 0 && boot >= a.neighbours.retryAt {
		a.reach(boot)
	}
	a.listen(boot, n.packets)
	if a.core.fitness.changed && a.options.Ask != nil {
		a.options.Ask(a.core.healthTargets())
	}
	a.overhear(boot, n.claims)
	for _, p := range n.probes {
		a.core.sight.Probed(boot, p.asked, p.answered)
	}
	if settled := a.core.settle(boot); settled || changed || retry || a.core.pending() || a.core.late() {
		a.carryOut(now, boot)
	} else if heard || found || a.core.sight.Counts() != a.status.Load().Peers {
		a.conclude(a.core.report())
	}
	if end := boot + a.clock() - began; until != 0 && end >= until {
		a.restart(end)
	} else {
		a.neighbours.send(end, a.core.sight)
	}
	for _, address := range a.core.sight.Ask() {
		a.core.unasked.Add(address)
	}
	a.ask(a.core.takeUnasked(boot, now))
	a.core.regain(now)
	a.core.notifyPeers(now, n.again)
	a.insist(now)
	a.probeAhead(now, boot)
	a.defend(now, defend)
	a.announce(now)
	a.write(a.core.journal.take(now, a.core.plan.String()))
	a.core.hasten(a.clock() - began)
}

// judge says whether the node has become unwell, or well again, and tells peers.
func (a *Announcer) judge(boot time.Duration) bool {
	unwell, news := a.core.fitness.judge(boot)
	if !news {
		return false
	}
	if unwell {
		a.log.Warn("kube-proxy of this node does not work; others are to answer for its addresses", "asked", a.core.fitness.proxy)
	} else {
		a.log.Info(a.core.fitness.recovery(), "asked", a.core.fitness.proxy)
	}
	a.core.sight.SetUnwell(boot, unwell)
	return true
}

// mute looks whether heartbeats have begun or ceased to leave by an interface, and reports
// whether that is so.
func (a *Announcer) mute(now time.Time, boot time.Duration) bool {
	unsent, unheard := a.neighbours.mute(boot, a.core.sight)
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

// speak has routers told what plan and interfaces have come to.
func (a *Announcer) speak(boot time.Duration) {
	if desired, ok := a.core.say(boot); ok && a.options.Speaker != nil {
		a.options.Speaker.Set(desired)
	}
}

// wake looks whether the process slept for so long that peers took it for down. Then what
// they said meanwhile does not count, and it begins anew.
func (a *Announcer) wake(boot time.Duration, n *news) {
	if a.core.sight.Overslept(boot) {
		n.packets = nil
		a.restart(boot)
	}
}

// restart begins anew after peers took the node for down.
func (a *Announcer) restart(boot time.Duration) {
	a.log.Warn("this process did not run for longer than peers wait; it answers for nothing until it has listened")
	a.core.sight.Restart(boot, newBoot())
}

// reach brings the sockets to peers up to date.
func (a *Announcer) reach(boot time.Duration) {
	if err := a.neighbours.set(boot, a.core); err != nil {
		a.log.Warn("peers cannot be watched everywhere; it is tried again", "error", err)
	}
}

// listen takes what peers said.
func (a *Announcer) listen(boot time.Duration, packets []sight.Arrival) {
	a.neighbours.look(boot, a.core.sight)
	for _, p := range packets {
		p.Unwell = a.core.trusts(boot, p.Packet)
		err := a.core.sight.Receive(boot, p.Packet)
		if err != nil {
			a.neighbours.network.Drop(err)
		}
		a.neighbours.heard(p, err)
	}
}

// accept offers plans to the core and reports whether one was taken.
func (a *Announcer) accept(boot time.Duration, plans map[string]announcement.Set) bool {
	taken, revoked, before, voucher := false, false, a.core.set.Cluster, a.core.set.Voucher.Authority
	for replica, set := range plans {
		void, err := a.core.offerAt(boot, set)
		if err == nil {
			taken, revoked = true, revoked || void
			delete(a.told, replica)
			continue
		}
		a.refuse(replica, err)
	}
	if !taken {
		if a.options.Keeper != nil && a.core.set.Voucher.Authority != voucher {
			a.options.Keeper.Keep(a.core.set)
		}
		return false
	}
	if revoked {
		a.log.Warn("the plan held was accepted from a replica whose authority is revoked; it does not count any more", "plan", a.core.set.Stamp)
		a.core.sight.Restart(boot, newBoot()) // Its stamps are above those of the leader.
	}
	if before != "" && before != a.core.set.Cluster {
		a.log.Warn("the plan that was kept is another cluster's and is discarded", "kept", before, "cluster", a.core.set.Cluster)
		a.core.sight.Restart(boot, newBoot()) // Its stamps mean nothing here.
	}
	if a.options.Keeper != nil {
		a.options.Keeper.Keep(a.core.set)
	}
	return true
}

// carryOut makes the sockets answer what the core wants, as far as a portion goes, and
// reports what was reached. Before peers hear of anything, what the node claims no more is
// not answered any more.
func (a *Announcer) carryOut(now time.Time, boot time.Duration) {
	waiting := a.core.reconsider.Len()
	a.reply(now)
	if a.core.reconsider.Len() > waiting {
		// Peers are not to hear claims to what cannot be answered. What else ends now ends first.
		a.core.configure(boot)
		a.core.settle(boot)
		a.reply(now)
	}
	a.conclude(a.core.report())
}

// reply makes the sockets answer what the core wants of a portion.
func (a *Announcer) reply(now time.Time) {
	addresses := a.core.portion()
	a.core.want(addresses)
	a.core.applied(now, addresses, a.apply())
}

// apply makes the sockets answer what the core wants, and says what failed.
func (a *Announcer) apply() failures {
	failed := failures{}
	for f, r := range a.responders {
		failed[f] = r.Apply(a.core.ports.of(f))
	}
	a.listenFor()
	return failed
}

// conclude makes what was reached known.
func (a *Announcer) conclude(report *announcement.Report) {
	a.publish()
	if report != nil {
		a.options.Report(*report)
	}
}

// announce sends announcements that are due: some, and the others with the next turns. All
// addresses are announced in one form before any is in another, unless that takes long. What is
// not the first announcement of an address that the node has begun to answer for waits until
// frames leave room.
func (a *Announcer) announce(now time.Time) {
	c := a.core
	most := c.pace.portion()
	first := c.schedule.takeFirst(now, most)
	c.schedule.putOff(now, a.announceFirstForm(now, first))
	if a.withheld.IsZero() {
		a.withheld = now
	}
	if (len(first) == most || c.pending()) && now.Sub(a.withheld) < c.frames.pacing.Interval {
		return
	}
	otherwise := a.otherwise.Take(min(most, c.frames.left(now, c.reserved())))
	c.frames.spend(now, len(otherwise))
	for f, addresses := range byFamily(otherwise) {
		if err := a.responders[f].AnnounceOtherwise(addresses); err != nil {
			a.logLimit.Log(a.log, now, slog.LevelWarn, "announce otherwise", "announcing addresses in the other form failed; it is repeated", "addresses", len(addresses), "error", err)
		}
	}
	a.announceFirstForm(now, c.schedule.takeRepeats(now, min(most-len(first), c.frames.left(now, c.reserved()))))
	if a.otherwise.Len() == 0 {
		a.withheld = time.Time{}
	}
}

// announceFirstForm announces addresses in the form that most hosts heed, and has those that
// there are others for wait for these. It returns those that could not leave for want of room.
func (a *Announcer) announceFirstForm(now time.Time, addresses []netip.Addr) (unsent []netip.Addr) {
	a.core.frames.spend(now, len(addresses))
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

func (a *Announcer) write(lines []line) {
	for _, l := range lines {
		a.log.Log(context.Background(), l.level, l.text)
	}
}
