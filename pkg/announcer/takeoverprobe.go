package announcer

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/internal/addressqueue"
	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
)

const (
	// fewUnasked is how many addresses are asked for at the pace of all else that leaves unasked. To
	// announce more of them once exceeds by itself what switches allow that limit ARP most (15 frames
	// a second), and that waits for nothing either.
	fewUnasked = 15
	// crowdPause is the time between two portions of more than those, crowdParts in how many of
	// them the segment is asked for all, and crowdMost how many addresses a portion has at most.
	crowdPause = 100 * time.Millisecond
	crowdParts = 10
	crowdMost  = 100
)

// unasked are addresses that segments are asked for before they are taken over, which no node
// answers for meanwhile. They wait for no other frame, only for each other. It is pure.
type unasked struct {
	addressqueue.Queue
	// frames are those that leave for them.
	frames frames
	// crowd is how many waited at most since none did.
	crowd int
}

// roomFor returns how many addresses the segment may be asked for at now.
func (u *unasked) roomFor(now time.Time) int {
	u.crowd = max(u.crowd, u.Len())
	room := u.frames.roomFor(now, 0) / probeFrames
	if u.crowd > fewUnasked {
		portion := min(crowdMost, (u.crowd+crowdParts-1)/crowdParts)
		room = max(room, portion-u.frames.sentSince(now.Add(-crowdPause))/probeFrames)
	}
	return room
}

// spendFrames counts n addresses that the segment is asked for at now.
func (u *unasked) spendFrames(now time.Time, n int) {
	if u.frames.spendFrames(now, n*probeFrames); u.Len() == 0 {
		u.crowd = 0
	}
}

// freeAt returns when there is room for one that waits, or the zero time if there is at once.
func (u *unasked) freeAt() time.Time {
	at := u.frames.freeAt(probeFrames, 0)
	if last := u.frames.lastSent(); u.crowd > fewUnasked && !last.IsZero() && at.After(last.Add(crowdPause)) {
		return last.Add(crowdPause)
	}
	return at
}

// takeUnasked returns addresses to ask for now. Those that a peer claims by now are not asked for.
func (c *core) takeUnasked(boot time.Duration, now time.Time) (out []netip.Addr) {
	for room := c.takeoverProbes.roomFor(now); c.takeoverProbes.Len() > 0 && len(out) < room; {
		claimed := map[netip.Addr]bool{}
		for _, address := range c.takeoverProbes.Take(room - len(out)) {
			if c.failover.Claimant(address) != "" {
				claimed[address] = true
			} else {
				out = append(out, address)
			}
		}
		c.failover.SetProbeResults(boot, slices.Collect(maps.Keys(claimed)), claimed)
	}
	c.takeoverProbes.spendFrames(now, len(out))
	c.frames.spendFrames(now, len(out)*probeFrames)
	return out
}

// reservedFrames returns how many frames announcements leave to probes of the pools.
func (c *core) reservedFrames() int {
	if c.conflicts.starved {
		return c.frames.reservedForProbes()
	}
	return 0
}

// probeForTakeover asks the segments for addresses, and puts what comes of it into the inbox.
func (a *Announcer) probeForTakeover(addresses []netip.Addr) {
	// One that waited for its turn may have nowhere to be asked for by now, and that is no silence.
	addresses = slices.DeleteFunc(addresses, func(x netip.Addr) bool { return len(a.core.options[x].interfaces) == 0 })
	if len(addresses) == 0 {
		return
	}
	asking := ports{}
	for _, address := range addresses {
		asking.addAddress(address, a.core.options[address].interfaces)
	}
	for f, protocol := range protocols {
		asked := slices.DeleteFunc(slices.Clone(addresses), func(x netip.Addr) bool { return familyOf(x) != f })
		if len(asked) == 0 {
			continue
		}
		// Sockets belong to the network namespace of this thread.
		question, err := probe.New(protocol, nil, asking.portsOf(f))
		a.asking.Go(func() { a.awaitProbe(asked, question, err) })
	}
}

// awaitProbe waits for the answers to question. Where the segment could not be asked, another
// machine may answer for an address: it is asked again later.
func (a *Announcer) awaitProbe(asked []netip.Addr, question *probe.Question, err error) {
	var answered map[netip.Addr]bool
	if err == nil {
		var holders []probe.Holder
		holders, err = question.Run(a.asks, probe.Quick)
		answered = map[netip.Addr]bool{}
		for _, h := range holders {
			answered[h.Address] = true
		}
	}
	if err != nil && a.asks.Err() == nil {
		a.logLimit.Log(a.log, time.Now(), slog.LevelWarn, "ask", "asking for addresses failed; none is taken over until it works", "addresses", len(asked), "error", err)
		answered = map[netip.Addr]bool{}
		for _, address := range asked {
			answered[address] = true
		}
	}
	a.mailbox.addEvent(func(n *events) { n.probes = append(n.probes, probed{asked, answered}) })
}
