package announcer

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Listener hears which other machines claim addresses of one family that the node answers for;
// *responder.Responder with the protocol arp.Claims or ndp.Claims is one.
type Listener interface {
	// Apply makes ports the whole of what is listened for and says by interface index where
	// that failed.
	Apply(ports []*responder.Port) map[int]error
	// Close stops listening and frees everything.
	Close()
}

var _ Listener = (*responder.Responder)(nil)

// protocols know the frames of each family.
var protocols = map[family]probe.Protocol{ipv4: arp.Protocol{}, ipv6: ndp.Protocol{}}

// addListener makes the Listener of a family.
func (a *Announcer) addListener(f family, make func(failed func(), heard func(*responder.Port, []byte)) Listener, failed func()) {
	if make == nil {
		return
	}
	a.listeners[f] = make(failed, func(port *responder.Port, frame []byte) {
		if address, mac, ok := protocols[f].Holder(frame); ok && a.claimLimit.allowsClaim(time.Now(), address, mac) {
			a.mailbox.addConflictClaim(probe.Holder{Address: address, MAC: mac.String(), Interface: port.Name})
		}
	})
}

// takeConflicts takes what came of probing and which machines claim the node's addresses, and
// returns the addresses to defend. It reports whether that changes what is reported of other
// machines.
func (a *Announcer) takeConflicts(now time.Time, boot time.Duration, n events) (defend []netip.Addr, any bool) {
	for _, answer := range n.answers {
		a.core.conflicts.takeAnswer(boot, now, answer.asked, answer.holders, answer.failed)
	}
	for _, h := range n.claims {
		news, mayDefend := a.core.addConflict(boot, now, h)
		if news {
			a.logLimit.Log(a.log, now, slog.LevelWarn, "claim "+h.Address.String(), "another machine claims an address that this node answers for", "address", h.Address, "mac", h.MAC, "interface", h.Interface)
		}
		if mayDefend {
			a.core.conflicts.markDefended(boot, h.Address)
			defend = append(defend, h.Address)
		}
	}
	for _, address := range a.core.conflicts.takeOwed(boot) {
		a.core.conflicts.markDefended(boot, address)
		defend = append(defend, address)
	}
	a.logLimit.LogSummary(a.log, now, slog.LevelWarn, "log lines suppressed")
	a.core.conflicts.expireClaims(boot, a.core.claims.Has)
	return defend, a.core.conflicts.updateListed(boot)
}

// addConflict takes that a machine claims an address. It reports whether that is news, and
// whether to defend the address: against a node of the cluster it is not, failover settles that,
// nor where one that may answer for it could not be distinguished from a stranger.
func (c *core) addConflict(boot time.Duration, now time.Time, h probe.Holder) (news, defend bool) {
	if _, known := c.subnets.nodes[h.MAC]; known || !c.claims.Has(h.Address) {
		return false, false
	}
	news, defend = c.conflicts.takeClaim(boot, now, h)
	for _, name := range c.options[h.Address].Candidates {
		if name != c.node && !slices.ContainsFunc(c.nodePlan.Failover.Peers, func(p plan.Peer) bool { return p.Node == name && len(p.Interfaces) > 0 }) {
			return news, false
		}
	}
	if !defend {
		c.conflicts.markOwed(h.Address)
	}
	return news, defend
}

// takePeerAnnouncements takes that nodes of the cluster announce addresses of this one. What their packets
// said came first.
func (a *Announcer) takePeerAnnouncements(boot time.Duration, claims []probe.Holder) {
	for _, h := range claims {
		if a.core.claims.Has(h.Address) {
			a.core.failover.PeerAnnounced(boot, h.Address, a.core.subnets.nodes[h.MAC])
		}
	}
}

// reannounceNow announces what a peer announced that is not heard, and tells the log of that peer.
func (a *Announcer) reannounceNow(now time.Time) {
	for _, address := range a.core.failover.TakeReannounceNow() {
		if !a.core.claims.Has(address) {
			continue
		}
		a.core.schedule.repeatBurst(address, now)
		peer := a.core.failover.Unheard(address)
		if peer == "" {
			continue
		}
		a.logLimit.Log(a.log, now, slog.LevelWarn, "unheard "+peer, "a node announces an address of this one, and its packets are not heard; one of the two yields; is UDP port 10272 blocked between them?", "peer", peer, "address", address)
	}
}

// defendAddresses schedules announcements of those of addresses that the node still answers for.
func (a *Announcer) defendAddresses(now time.Time, addresses []netip.Addr) {
	for _, address := range addresses {
		if a.core.claims.Has(address) {
			a.core.schedule.announceOnce(address, now)
		}
	}
}

// probeAhead asks for addresses of the plan's Probing that are due.
func (a *Announcer) probeAhead(now time.Time, boot time.Duration) {
	if a.core.links == nil || a.core.subnets == nil || a.core.stopping {
		return
	}
	due := a.core.conflicts.takeDue(boot, a.core.frames.roomFor(now, 0)/probeFrames)
	if len(due) == 0 {
		return
	}
	a.core.frames.spendFrames(now, len(due)*probeFrames)
	asking := ports{}
	for _, p := range due {
		asking.addAddress(p.Address, a.core.subnets.optionFor(plan.Assignment{Address: p.Address, Interface: p.Interface}).interfaces)
	}
	var questions []*probe.Question
	failed := false
	for f, protocol := range protocols {
		if of := asking.portsOf(f); len(of) > 0 {
			// Sockets belong to the network namespace of this thread.
			question, err := probe.New(protocol, nil, of)
			if failed = failed || err != nil; err == nil {
				questions = append(questions, question)
				continue
			}
			a.logLimit.Log(a.log, time.Now(), slog.LevelWarn, "probing", "probing addresses failed; it is tried again", "error", err)
		}
	}
	a.asking.Go(func() { a.awaitAnswers(due, questions, failed) })
}

// awaitAnswers waits for the answers to questions, which are asked at the same time.
func (a *Announcer) awaitAnswers(due []plan.Probe, questions []*probe.Question, failed bool) {
	var all sync.WaitGroup
	var mu sync.Mutex
	out := answered{asked: due, failed: failed}
	for _, q := range questions {
		all.Go(func() {
			holders, err := q.Run(a.asks, probe.Patient)
			mu.Lock()
			defer mu.Unlock()
			out.holders = append(out.holders, holders...)
			if err != nil && a.asks.Err() == nil {
				a.logLimit.Log(a.log, time.Now(), slog.LevelWarn, "probing", "probing addresses failed; it is tried again", "error", err)
				out.failed = true
			}
		})
	}
	all.Wait()
	a.mailbox.addEvent(func(n *events) { n.answers = append(n.answers, out) })
}

// listenFor makes the listeners hear of what the core answers.
func (a *Announcer) listenFor() {
	if s := a.core.subnets; s != nil {
		a.claimLimit.setNodes(s.nodes)
	}
	for f, l := range a.listeners {
		for _, err := range l.Apply(a.core.ports.portsOf(f)) {
			if text := err.Error(); a.deaf[f] != text {
				a.deaf[f] = text
				a.logLimit.Log(a.log, time.Now(), slog.LevelWarn, "deaf "+string(f), "other machines that claim addresses are not heard", "error", err)
			}
		}
	}
}
