package sight

import (
	"net/netip"
	"slices"
	"time"
)

// insistAgain is the least time after which peers that are not heard and announce an address
// are told again that the node keeps it: by different lists each of them may, too. When one of
// them yields the next one has its turn no sooner.
const insistAgain = 2 * turnTime

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
// peer comes any more: then both claim the address, and of the two the earlier in the list goes
// on, and the later one is to hear of it.
func (c *Core) Overheard(now time.Duration, address netip.Addr, node string) {
	e := c.lists[address]
	if e == nil || c.peers[node] == nil || c.claims.of(address).IsZero() {
		return
	}
	since := now
	e.unsay(func(w word) bool {
		if w.peer == node && c.counts(w) {
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

// yielded says that an earlier candidate answers for the address, whom the node does not hear.
func (c *Core) yielded(e *entry) bool {
	return slices.ContainsFunc(e.words, func(w word) bool { return c.earlier(e, w) && c.counts(w) })
}

// overheard returns until when the packets of a candidate may still come that announced the
// address, and is before this node; zero is of one that did not, or that is heard.
func (c *Core) overheard(e *entry, candidate string) time.Duration {
	for _, w := range e.words {
		if w.peer == candidate && c.earlier(e, w) && c.counts(w) {
			return w.since + 2*c.interval
		}
	}
	return 0
}

// insist notes that the segment is to be told of an address which the node keeps, and that a
// later candidate announced whom it does not hear. It returns when to look again, if it was
// told of late; 0 is never.
func (c *Core) insist(now time.Duration, address netip.Addr, e *entry) time.Duration {
	for _, w := range e.words {
		if !c.later(e, w) || !c.counts(w) || w.at <= e.insisted {
			continue
		}
		if due := e.insisted + insistAgain; e.insisted != 0 && now < due {
			return due
		}
		e.insisted, c.insists[address] = now, true
	}
	return 0
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
