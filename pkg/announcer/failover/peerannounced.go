package failover

import (
	"math"
	"net/netip"
	"slices"
	"time"
)

// never is a time that does not come.
const never = time.Duration(math.MaxInt64)

// reannouncePause is the least time after which the node answers another word about an address.
const reannouncePause = skew

// announcementRecord is that a peer announced an address: when last, and since when it does so unheard.
type announcementRecord struct {
	peer      string
	since, at time.Duration
}

// carryRecords keeps what still counts when e gets a new list. Where the node keeps the address and heard
// the word a while ago, the claimant that had to yield has yielded. It is not known whether that was the
// peer: the node announces the address again, and if the peer answers for it the peer says so.
func (c *Node) carryRecords(now time.Duration, address netip.Addr, e *entry) {
	e.reannounced = 0
	if c.claims.versionOf(address).IsZero() {
		return
	}
	e.forgetRecords(func(w announcementRecord) bool {
		old := now >= w.at+3*c.interval
		if old && c.recordCounts(w) {
			c.toReannounceNow[address] = true
		}
		return old
	})
}

// PeerAnnounced takes that the segment heard a peer announce address. It counts if packets of the
// peer no longer come: then both claim the address, and contest it by what they announce. The
// earlier in the list answers each word of the later one. The later one yields when no packets of
// the earlier one have come for a while. If it is in company it answers then, once, and yields to
// another word: so the earlier one, if it is alone, learns that it must yield. A word that comes
// later than all this takes begins another contest.
func (c *Node) PeerAnnounced(now time.Duration, address netip.Addr, node string) {
	e := c.lists[address]
	if e == nil || c.peers[node] == nil || c.claims.versionOf(address).IsZero() {
		return
	}
	since := now
	e.forgetRecords(func(w announcementRecord) bool {
		if w.peer == node && c.recordCounts(w) && now <= w.at+2*(c.interval+reannouncePause) {
			since = w.since
		}
		return w.peer == node
	})
	e.records = append(e.records, announcementRecord{node, since, now})
	if e.probe == Silent {
		e.probe = Unasked // A peer has answered since.
	}
	c.dirty.AddUrgent(address)
}

// forgetRecords forgets the words of which over says so.
func (e *entry) forgetRecords(over func(announcementRecord) bool) {
	e.records = slices.DeleteFunc(e.records, over)
}

// recordCounts reports whether a word is of a peer of which no packet has come since, nor is
// expected.
func (c *Node) recordCounts(w announcementRecord) bool {
	p := c.peers[w.peer]
	return p != nil && p.state != Up && w.at > p.heard
}

// isEarlier and later report whether a word is of a candidate before this node, or after it.
func (c *Node) isEarlier(e *entry, w announcementRecord) bool {
	at := slices.Index(e.Candidates, w.peer)
	return at >= 0 && at < slices.Index(e.Candidates, c.name)
}

func (c *Node) isLater(e *entry, w announcementRecord) bool {
	return slices.Index(e.Candidates, w.peer) > slices.Index(e.Candidates, c.name)
}

// hasYielded reports whether the node has yielded to a word.
func (c *Node) hasYielded(now time.Duration, e *entry) bool {
	return slices.ContainsFunc(e.records, func(w announcementRecord) bool { return c.recordCounts(w) && now >= c.yieldAt(e, w) })
}

// yieldAt returns when the node yields to a word that counts.
func (c *Node) yieldAt(e *entry, w announcementRecord) time.Duration {
	awaited := w.since + 2*c.interval
	switch answered := e.reannounced >= w.since && e.reannounced != 0; {
	case c.isLater(e, w):
		// One that goes on though this node has answered is in company.
		if (c.isAlone() || e.Mute) && answered && w.at >= e.reannounced+2*c.interval {
			return w.at
		}
		return never
	case !c.isEarlier(e, w):
		return never
	case c.bidirectionalPeers == 0:
		return awaited
	case answered && e.reannounced >= awaited && w.at > e.reannounced:
		return w.at // It is not alone.
	}
	return never
}

// yieldPause is for how long more than askAgain a node that has yielded to a word does as if the
// segment had answered. Others may have yielded to the same word; the earlier ones ask first. Where
// no host had answered and the word came all the same, the segment carries frames one way only, and
// asking is worth less.
func (c *Node) yieldPause(e *entry) time.Duration {
	pause := askTurn(slices.Index(e.Candidates, c.name))
	if e.silence {
		pause += askAgain
	}
	return pause
}

// yieldTime returns when the node yields to a candidate that announced the address; zero is of one
// that did not, or that is heard.
func (c *Node) yieldTime(e *entry, candidate string) time.Duration {
	for _, w := range e.records {
		if w.peer == candidate && c.recordCounts(w) {
			return c.yieldAt(e, w)
		}
	}
	return 0
}

// reannounceNow notes that the node announces address again: it keeps the address though a peer that
// it does not hear announced it. It returns when to look again; 0 is never.
func (c *Node) reannounceNow(now time.Duration, address netip.Addr, e *entry) time.Duration {
	again := time.Duration(0)
	for _, w := range e.records {
		due := c.reannounceAt(e, w)
		if now < due {
			again = earlierTime(again, due)
		} else if due != 0 {
			e.reannounced, c.toReannounceNow[address] = now, true
			return 0
		}
	}
	return again
}

// reannounceAt returns when the node answers a word; 0 is not at all.
func (c *Node) reannounceAt(e *entry, w announcementRecord) time.Duration {
	due := w.at
	if c.isEarlier(e, w) {
		due = w.since + 2*c.interval
	}
	switch {
	case !c.recordCounts(w) || due <= e.reannounced || !c.isEarlier(e, w) && !c.isLater(e, w):
		return 0
	case e.reannounced != 0:
		due = max(due, e.reannounced+reannouncePause)
	}
	return due
}

// TakeReannounceNow returns the addresses, sorted, to announce at once: a peer that the node does not
// hear announced them. That peer may be later in the list, and yields when it hears the announcement.
// Each is returned once.
func (c *Node) TakeReannounceNow() []netip.Addr { return takeSorted(&c.toReannounceNow) }

// Unheard returns the peer that announced address last and is not heard otherwise, or "".
func (c *Node) Unheard(address netip.Addr) string {
	if e := c.lists[address]; e != nil {
		for _, w := range slices.Backward(e.records) {
			if c.recordCounts(w) {
				return w.peer
			}
		}
	}
	return ""
}
