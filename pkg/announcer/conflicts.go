package announcer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
	"baremetal.cloud/ccm/pkg/announcer/plan"
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
	// heardFor is for how long the node reports a machine that claimed an address of the node's,
	// after it was heard last: the machine need not speak again while it uses the address.
	heardFor = 5 * time.Minute
	// upkeepPause is the least time between two looks for claims that are over, and between two
	// reports of other machines: a LAN host that sends thousands of claims in a second causes no
	// more of either.
	upkeepPause = time.Second
)

// conflicts is what a node knows of other machines that have addresses: those that it was
// told to probe, and those that it answers for. It is pure. Times are of package failover, but
// for when a machine was first heard, which is for people.
type conflicts struct {
	probing plan.Probing
	// due is when each address of probing is asked for next, waiting reports that a question is
	// under way, and unasked are the addresses that were never asked for.
	due     map[netip.Addr]time.Duration
	waiting bool
	// starved reports whether something was due when the node might not send anything.
	starved bool
	unasked map[netip.Addr]bool
	// probed is what plan.Report says of it.
	probed plan.Version
	// found are the machines by address that the last question found, and heard those that
	// claimed an address of the node's.
	found, heard claimants
	// defended is when an address was defended last, and owed are the addresses that were claimed
	// again too early for another defence.
	defended map[netip.Addr]time.Duration
	owed     map[netip.Addr]bool
	// listed are found and heard as they were told at listedAt, and told what probed was then;
	// changed reports whether they are not up to date.
	listed   []plan.Finding
	told     plan.Version
	listedAt time.Duration
	changed  bool
	// expired is when it was looked last for claims that are over.
	expired time.Duration
	counts  ConflictCounts
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
		found: newClaimants(), heard: newClaimants(), defended: map[netip.Addr]time.Duration{}, owed: map[netip.Addr]bool{},
	}
}

// setProbing makes p what is asked for.
func (c *conflicts) setProbing(boot time.Duration, p plan.Probing) {
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
			c.forgetHolders(&c.found, address)
		}
	}
	c.acknowledgeProbing()
}

// acknowledgeProbing notes that every address was asked for, if it was.
func (c *conflicts) acknowledgeProbing() {
	if len(c.unasked) == 0 && c.probed != c.probing.Version {
		c.probed, c.changed = c.probing.Version, true
	}
}

// forgetHolders forgets which machines have address, and returns them.
func (c *conflicts) forgetHolders(from *claimants, address netip.Addr) map[probe.Holder]sighting {
	before := from.removeAddress(address)
	c.changed = c.changed || len(before) > 0
	return before
}

// takeDue returns what to ask for now, if anything, at most so much, and waits for what comes of
// it.
func (c *conflicts) takeDue(boot time.Duration, most int) []plan.Probe {
	if c.waiting {
		return nil
	}
	var out []plan.Probe
	c.starved = false
	for _, p := range c.probing.Probes {
		if c.due[p.Address] > boot {
			continue
		}
		if len(out) == min(most, probesAtOnce) {
			c.starved = len(out) == 0
			break
		}
		out = append(out, p)
	}
	c.waiting = len(out) > 0
	return out
}

// takeAnswer takes what came of asking for addresses: which machines have them, or that they
// could not be asked for.
func (c *conflicts) takeAnswer(boot time.Duration, now time.Time, asked []plan.Probe, holders []probe.Holder, failed bool) {
	c.waiting, c.changed = false, true
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
		before[p.Address] = c.forgetHolders(&c.found, p.Address)
		c.counts.Probed++
	}
	for _, h := range holders {
		if known, ok := before[h.Address]; ok {
			c.keepHolder(&c.found, h, known[h], boot, now)
		}
	}
	c.acknowledgeProbing()
}

// keepHolder keeps that h was found, if there is room; known is what was known of h before.
func (c *conflicts) keepHolder(in *claimants, h probe.Holder, known sighting, boot time.Duration, now time.Time) {
	if known.since == 0 {
		known.since = now.Unix()
	}
	known.last = boot
	c.changed = in.setHolder(h, known) || c.changed
}

// takeClaim takes that another machine claims an address that the node answers for. It reports
// whether that is news, and whether the node must defend the address if it may (RFC 5227 section
// 2.4, (c): it never gives the address up, and does not defend it again within defendInterval).
func (c *conflicts) takeClaim(boot time.Duration, now time.Time, h probe.Holder) (news, defend bool) {
	known, again := c.heard.findHolder(h)
	c.counts.Claimed++
	c.changed = true
	if again {
		known.last = boot
		c.heard.setHolder(h, known)
	} else {
		c.keepHolder(&c.heard, h, sighting{}, boot, now)
	}
	last, ever := c.defended[h.Address]
	return !again, !ever || boot >= last+defendInterval
}

// markDefended notes that address is defended now.
func (c *conflicts) markDefended(boot time.Duration, address netip.Addr) {
	c.defended[address] = boot
	delete(c.owed, address)
	c.counts.Defended++
	c.changed = true
}

// markOwed notes that the node must defend address as soon as it may. The claim that came too early
// may be the last one, and is what other hosts believe until then.
func (c *conflicts) markOwed(address netip.Addr) { c.owed[address] = true }

// takeOwed returns the addresses, sorted, whose defence was owed and may be now.
func (c *conflicts) takeOwed(boot time.Duration) []netip.Addr {
	var out []netip.Addr
	for address := range c.owed {
		if boot >= c.defended[address]+defendInterval {
			out = append(out, address)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// expireClaims forgets what is over: claims that were not heard again, and those to addresses that
// the node no longer answers for. It looks once in upkeepPause.
func (c *conflicts) expireClaims(boot time.Duration, answers func(netip.Addr) bool) {
	if c.expired != 0 && boot < c.expired+upkeepPause {
		return
	}
	c.expired = boot
	c.changed = c.heard.expireHolders(boot, answers) || c.changed
	maps.DeleteFunc(c.owed, func(address netip.Addr, _ bool) bool { return !answers(address) })
	maps.DeleteFunc(c.defended, func(address netip.Addr, last time.Duration) bool {
		return boot >= last+defendInterval && !c.owed[address]
	})
}

// nextProbe returns when to ask for something; 0 is never.
func (c *conflicts) nextProbe() time.Duration {
	next := time.Duration(0)
	if !c.waiting {
		for _, due := range c.due {
			next = earlierDuration(next, due)
		}
	}
	return next
}

// wakeAt returns when there is something else to do; 0 is never.
func (c *conflicts) wakeAt() time.Duration {
	next := time.Duration(0)
	if c.changed {
		next = earlierDuration(next, c.listedAt+upkeepPause)
	}
	for address := range c.owed {
		next = earlierDuration(next, c.defended[address]+defendInterval)
	}
	if over := c.heard.nextExpiry(); over != 0 {
		next = earlierDuration(next, max(over, c.expired+upkeepPause))
	}
	return next
}

// earlierDuration returns the earlier of two times, of which 0 means never.
func earlierDuration(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// updateListed brings what is reported of other machines up to date, once in upkeepPause, and
// reports whether it did.
func (c *conflicts) updateListed(boot time.Duration) bool {
	if !c.changed || c.listedAt != 0 && boot < c.listedAt+upkeepPause {
		return false
	}
	since := map[probe.Holder]int64{}
	for _, in := range []claimants{c.found, c.heard} {
		for _, by := range in.by {
			for h, s := range by {
				since[h] = cmp.Or(min(since[h], s.since), s.since)
			}
		}
	}
	c.listed, c.told, c.listedAt, c.changed = nil, c.probed, boot, false
	for h, s := range since {
		c.listed = append(c.listed, plan.Finding{Address: h.Address, MAC: h.MAC, Interface: h.Interface, Since: s})
	}
	slices.SortFunc(c.listed, plan.Finding.Compare)
	return true
}
