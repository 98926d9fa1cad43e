package announcer

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/probe"
)

// takeUnasked returns addresses to ask for now, as many as frames leave room for.
func (c *core) takeUnasked(now time.Time) []netip.Addr {
	if c.unasked.Len() == 0 {
		return nil
	}
	some := c.unasked.Take(c.frames.left(now, 0) / probeFrames)
	c.frames.spend(now, len(some)*probeFrames)
	return some
}

// reserved returns how many frames announcements leave to probes.
func (c *core) reserved() int {
	if c.unasked.Len() > 0 || c.conflicts.starved {
		return c.frames.reserve()
	}
	return 0
}

// ask asks the segments for addresses, and puts what comes of it into the inbox.
func (a *Announcer) ask(addresses []netip.Addr) {
	// One that waited for its turn may have nowhere to be asked for by now, and that is no silence.
	addresses = slices.DeleteFunc(addresses, func(x netip.Addr) bool { return len(a.core.options[x].interfaces) == 0 })
	if len(addresses) == 0 {
		return
	}
	asking := ports{}
	for _, address := range addresses {
		asking.add(address, a.core.options[address].interfaces)
	}
	for f, protocol := range protocols {
		asked := slices.DeleteFunc(slices.Clone(addresses), func(x netip.Addr) bool { return familyOf(x) != f })
		if len(asked) == 0 {
			continue
		}
		// Sockets belong to the network namespace of this thread.
		question, err := probe.New(protocol, nil, asking.of(f))
		a.asking.Go(func() { a.await(asked, question, err) })
	}
}

// await waits for the answers to question. Where the segment could not be asked, somebody
// may answer: it is asked again later.
func (a *Announcer) await(asked []netip.Addr, question *probe.Question, err error) {
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
	a.inbox.put(func(n *news) { n.probes = append(n.probes, probed{asked, answered}) })
}
