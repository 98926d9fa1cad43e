package announcer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/probe"
)

const (
	// probesAtOnce is how many addresses are asked for by one question. One follows another,
	// so that a node sends no more than three times as many frames in three seconds.
	probesAtOnce = 32
	// reprobeAfter is when addresses are asked for again that could not be.
	reprobeAfter = 10 * time.Second
	// defendInterval is the least time between two defences of an address (RFC 5227 section
	// 1.1, DEFEND_INTERVAL).
	defendInterval = 10 * time.Second
	// heardFor is for how long it is told of a machine that claimed an address of the node's,
	// after it was heard last: it need not speak again while it uses the address.
	heardFor = 5 * time.Minute
	// maxFound is of how many machines is told.
	maxFound = 1 << 12
)

// conflicts is what a node knows of other machines that have addresses: those that it was
// told to probe, and those that it answers for. It is pure. Times are of package sight, but
// for when a machine was first heard, which is for people.
type conflicts struct {
	probing announcement.Probing
	// due is when each address of probing is asked for next, waiting says that a question is
	// under way, and unasked are the addresses that were never asked for.
	due     map[netip.Addr]time.Duration
	waiting bool
	unasked map[netip.Addr]bool
	// probed is what announcement.Report says of it.
	probed announcement.Stamp
	// found are the machines by address that the last question found, and heard those that
	// claimed an address of the node's.
	found map[netip.Addr]map[probe.Holder]sighting
	heard map[netip.Addr]map[probe.Holder]sighting
	// defended is when an address was defended last.
	defended map[netip.Addr]time.Duration
	// listed are found and heard as they are told; changed says that they are not up to date.
	listed  []announcement.Finding
	changed bool
	counts  ConflictCounts
}

// sighting is when a machine was first and last heard.
type sighting struct {
	since int64
	last  time.Duration
}

// ConflictCounts are what a node did about other machines that have addresses, since it started.
type ConflictCounts struct {
	// Probed counts the addresses that it asked its network for, Claimed how often another
	// machine claimed an address that it answers for, and Defended how often it announced one
	// because of that.
	Probed, Claimed, Defended uint64
}

func newConflicts() conflicts {
	return conflicts{
		due: map[netip.Addr]time.Duration{}, unasked: map[netip.Addr]bool{},
		found: map[netip.Addr]map[probe.Holder]sighting{}, heard: map[netip.Addr]map[probe.Holder]sighting{},
		defended: map[netip.Addr]time.Duration{},
	}
}

// set makes p what is asked for.
func (c *conflicts) set(boot time.Duration, p announcement.Probing) {
	if p.Equal(c.probing) {
		return
	}
	sooner := p.Interval < c.probing.Interval
	c.probing = p
	wanted := make(map[netip.Addr]bool, len(p.Probes))
	for _, q := range p.Probes {
		wanted[q.Address] = true
		due, known := c.due[q.Address]
		switch {
		case !known:
			c.due[q.Address], c.unasked[q.Address] = boot, true
		case sooner:
			c.due[q.Address] = min(due, boot+p.Interval)
		}
	}
	for address := range c.due {
		if !wanted[address] {
			delete(c.due, address)
			delete(c.unasked, address)
			c.forget(c.found, address)
		}
	}
	c.acknowledge()
}

// acknowledge notes that every address was asked for, if it was.
func (c *conflicts) acknowledge() {
	if len(c.unasked) == 0 {
		c.probed = c.probing.Stamp
	}
}

func (c *conflicts) forget(from map[netip.Addr]map[probe.Holder]sighting, address netip.Addr) {
	if len(from[address]) > 0 {
		c.changed = true
	}
	delete(from, address)
}

// take returns what is to be asked for now, if anything, and waits for what comes of it.
func (c *conflicts) take(boot time.Duration) []announcement.Probe {
	if c.waiting {
		return nil
	}
	var out []announcement.Probe
	for _, p := range c.probing.Probes {
		if c.due[p.Address] <= boot && len(out) < probesAtOnce {
			out = append(out, p)
		}
	}
	c.waiting = len(out) > 0
	return out
}

// answer takes what came of asking for addresses: who has them, or that they could not be
// asked for.
func (c *conflicts) answer(boot time.Duration, now time.Time, asked []announcement.Probe, holders []probe.Holder, failed bool) {
	c.waiting = false
	again := boot + c.probing.Interval
	if failed {
		again = boot + min(reprobeAfter, c.probing.Interval)
	}
	before := map[netip.Addr]map[probe.Holder]sighting{}
	for _, p := range asked {
		if _, wanted := c.due[p.Address]; !wanted {
			continue
		}
		c.due[p.Address] = again
		if failed {
			continue
		}
		delete(c.unasked, p.Address)
		before[p.Address] = c.found[p.Address]
		c.forget(c.found, p.Address)
		c.counts.Probed++
	}
	for _, h := range holders {
		if known, ok := before[h.Address]; ok {
			c.note(c.found, h, known[h], boot, now)
		}
	}
	c.acknowledge()
}

// note keeps that h was found, whom known is of from before.
func (c *conflicts) note(in map[netip.Addr]map[probe.Holder]sighting, h probe.Holder, known sighting, boot time.Duration, now time.Time) {
	if in[h.Address] == nil {
		in[h.Address] = map[probe.Holder]sighting{}
	}
	if known.since == 0 {
		known.since = now.Unix()
	}
	known.last = boot
	in[h.Address][h] = known
	c.changed = true
}

// hear takes that another machine claims an address that the node answers for. It reports
// whether that is news, and whether the node is to defend the address if it may (RFC 5227
// section 2.4, (c): it never gives the address up, and does not defend it again within
// defendInterval).
func (c *conflicts) hear(boot time.Duration, now time.Time, h probe.Holder) (news, defend bool) {
	known, again := c.heard[h.Address][h]
	c.counts.Claimed++
	if again {
		known.last = boot
		c.heard[h.Address][h] = known
	} else if len(c.heard) < maxFound {
		c.note(c.heard, h, sighting{}, boot, now)
	}
	last, ever := c.defended[h.Address]
	return !again, !ever || boot >= last+defendInterval
}

// defend notes that address is defended now.
func (c *conflicts) defend(boot time.Duration, address netip.Addr) {
	c.defended[address] = boot
	c.counts.Defended++
}

// expire forgets what is over: claims that were not heard again, and those to addresses that
// the node does not answer for any more.
func (c *conflicts) expire(boot time.Duration, answers func(netip.Addr) bool) {
	for address, by := range c.heard {
		for h, s := range by {
			if boot >= s.last+heardFor {
				delete(by, h)
				c.changed = true
			}
		}
		if len(by) == 0 || !answers(address) {
			c.forget(c.heard, address)
		}
	}
	maps.DeleteFunc(c.defended, func(_ netip.Addr, last time.Duration) bool { return boot >= last+defendInterval })
}

// wake returns when there is something to do; 0 is never.
func (c *conflicts) wake() time.Duration {
	next := time.Duration(0)
	if !c.waiting {
		for _, due := range c.due {
			next = soonest(next, due)
		}
	}
	for _, by := range c.heard {
		for _, s := range by {
			next = soonest(next, s.last+heardFor)
		}
	}
	return next
}

// soonest returns the earlier of two times, of which 0 means never.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// findings returns whom the node found, as it is told.
func (c *conflicts) findings() []announcement.Finding {
	if !c.changed {
		return c.listed
	}
	since := map[probe.Holder]int64{}
	for _, in := range []map[netip.Addr]map[probe.Holder]sighting{c.found, c.heard} {
		for _, by := range in {
			for h, s := range by {
				since[h] = cmp.Or(min(since[h], s.since), s.since)
			}
		}
	}
	c.listed, c.changed = nil, false
	for h, s := range since {
		c.listed = append(c.listed, announcement.Finding{Address: h.Address, MAC: h.MAC, Interface: h.Interface, Since: s})
	}
	slices.SortFunc(c.listed, announcement.Finding.Compare)
	return c.listed
}
