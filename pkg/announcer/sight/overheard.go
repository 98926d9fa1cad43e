package sight

import (
	"math"
	"net/netip"
	"slices"
	"time"
)

// never is a time that does not come.
const never = time.Duration(math.MaxInt64)

// insistAgain is the least time after which the node answers another word about an address.
const insistAgain = turnTime

// word is that a peer announced an address: when last, and since when it does so unheard.
type word struct {
	peer      string
	since, at time.Duration
}

// relist keeps what still counts when e is to have a new list. Where the node keeps the address and
// heard the word a while ago whoever was to yield has, and it is not known whether that was the
// peer: the segment is told again, and if the peer answers it says so.
func (c *Core) relist(now time.Duration, address netip.Addr, e *entry) {
	e.insisted = 0
	if c.claims.of(address).IsZero() {
		return
	}
	e.unsay(func(w word) bool {
		old := now >= w.at+3*c.interval
		if old && c.counts(w) {
			c.insists[address] = true
		}
		return old
	})
}

// Overheard takes that the segment heard a peer announce address. It counts if no packet of the
// peer comes any more: then both claim the address, and contest it by what they announce. The
// earlier in the list answers each word of the later one. The later one yields when no packets of
// the earlier one have come for a while. If it is in company it answers then, once, and yields to
// another word: so the earlier one, if it is alone, learns that it is to yield. A word that comes
// later than all this takes begins another contest.
func (c *Core) Overheard(now time.Duration, address netip.Addr, node string) {
	e := c.lists[address]
	if e == nil || c.peers[node] == nil || c.claims.of(address).IsZero() {
		return
	}
	since := now
	e.unsay(func(w word) bool {
		if w.peer == node && c.counts(w) && now <= w.at+2*(c.interval+insistAgain) {
			since = w.since
		}
		return w.peer == node
	})
	e.words = append(e.words, word{node, since, now})
	if e.probe == Silent {
		e.probe = Unasked // Somebody has answered since.
	}
	c.dirty.AddUrgent(address)
}

// unsay forgets the words of which over says so.
func (e *entry) unsay(over func(word) bool) { e.words = slices.DeleteFunc(e.words, over) }

// counts says that a word is of a peer of whom no packet has come since, nor is expected.
func (c *Core) counts(w word) bool {
	p := c.peers[w.peer]
	return p != nil && p.state != Up && w.at > p.heard
}

// earlier and later say that a word is of a candidate before this node, or after it.
func (c *Core) earlier(e *entry, w word) bool {
	at := slices.Index(e.Candidates, w.peer)
	return at >= 0 && at < slices.Index(e.Candidates, c.node)
}

func (c *Core) later(e *entry, w word) bool {
	return slices.Index(e.Candidates, w.peer) > slices.Index(e.Candidates, c.node)
}

// yielded says that the node has yielded to a word.
func (c *Core) yielded(now time.Duration, e *entry) bool {
	return slices.ContainsFunc(e.words, func(w word) bool { return c.counts(w) && now >= c.yieldAt(e, w) })
}

// yieldAt returns when the node yields to a word that counts.
func (c *Core) yieldAt(e *entry, w word) time.Duration {
	awaited := w.since + 2*c.interval
	switch answered := e.insisted >= w.since && e.insisted != 0; {
	case c.later(e, w):
		// One that goes on though this node has answered is in company.
		if (c.alone() || e.Mute) && answered && w.at >= e.insisted+2*c.interval {
			return w.at
		}
		return never
	case !c.earlier(e, w):
		return never
	case c.companions == 0:
		return awaited
	case answered && e.insisted >= awaited && w.at > e.insisted:
		return w.at // It is not alone.
	}
	return never
}

// yieldPause is for how long more than askAgain a node that has yielded to a word does as if the
// segment had answered. Others may have yielded to the same word; the earlier ones ask first. Where
// nobody had answered and the word came all the same, the segment carries frames one way only, and
// asking is worth less.
func (c *Core) yieldPause(e *entry) time.Duration {
	pause := askTurn(slices.Index(e.Candidates, c.node))
	if e.silence {
		pause += askAgain
	}
	return pause
}

// overheard returns when the node yields to a candidate that announced the address; zero is of one
// that did not, or that is heard.
func (c *Core) overheard(e *entry, candidate string) time.Duration {
	for _, w := range e.words {
		if w.peer == candidate && c.counts(w) {
			return c.yieldAt(e, w)
		}
	}
	return 0
}

// insist notes that the segment is to be told of an address which the node keeps though a peer
// announced it whom it does not hear. It returns when to look again; 0 is never.
func (c *Core) insist(now time.Duration, address netip.Addr, e *entry) time.Duration {
	again := time.Duration(0)
	for _, w := range e.words {
		due := c.insistAt(e, w)
		if now < due {
			again = sooner(again, due)
		} else if due != 0 {
			e.insisted, c.insists[address] = now, true
			return 0
		}
	}
	return again
}

// insistAt returns when the node is to answer a word; 0 is not at all.
func (c *Core) insistAt(e *entry, w word) time.Duration {
	due := w.at
	if c.earlier(e, w) {
		due = w.since + 2*c.interval
	}
	switch {
	case !c.counts(w) || due <= e.insisted || !c.earlier(e, w) && !c.later(e, w):
		return 0
	case e.insisted != 0:
		due = max(due, e.insisted+insistAgain)
	}
	return due
}

// Insists returns the addresses, sorted, that the node is to announce at once: a peer that it
// does not hear announced them, who may be later in the list and yields when it hears that. Each
// is returned once.
func (c *Core) Insists() []netip.Addr { return takeSorted(&c.insists) }

// Unheard returns the peer that announced address last and is not heard otherwise, or "".
func (c *Core) Unheard(address netip.Addr) string {
	if e := c.lists[address]; e != nil {
		for _, w := range slices.Backward(e.words) {
			if c.counts(w) {
				return w.peer
			}
		}
	}
	return ""
}
