package sight

import (
	"net/netip"
	"slices"
	"time"
)

// insistAgain is the least time in which a peer that is not heard and announces an address is
// told again that the node keeps it.
const insistAgain = time.Second

// word is who announced an address, "" for nobody, and when.
type word struct {
	peer string
	at   time.Duration
}

// Overheard takes that the segment heard a peer announce address. It counts if no packet of the
// peer comes any more: then both claim the address, and of the two the earlier in the list goes
// on, and the later one is to hear of it.
func (c *Core) Overheard(now time.Duration, address netip.Addr, node string) {
	e := c.lists[address]
	if e == nil || c.peers[node] == nil || c.claims.of(address).IsZero() {
		return
	}
	switch at := slices.Index(e.Candidates, node); {
	case at < 0:
		return
	case at < slices.Index(e.Candidates, c.node):
		e.before = word{node, now}
	default:
		e.after = word{node, now}
	}
	c.dirty.AddUrgent(address)
}

// counts says that a word is of a peer of whom no packet has come since, nor is expected.
func (c *Core) counts(w word) bool {
	p := c.peers[w.peer]
	return p != nil && p.state != Up && w.at > p.heard
}

// insist notes that the segment is to be told of an address which the node keeps, and that a
// later candidate announced whom it does not hear.
func (c *Core) insist(now time.Duration, address netip.Addr, e *entry) {
	if c.counts(e.after) && e.insisted.at < e.after.at && (e.insisted.peer != e.after.peer || now >= e.insisted.at+insistAgain) {
		e.insisted = word{e.after.peer, now}
		c.insists[address] = true
	}
}

// Insists returns the addresses, sorted, that the node is to announce at once: a peer that it
// does not hear announced them, who is later in the list and yields when it hears that. Each is
// returned once.
func (c *Core) Insists() []netip.Addr { return takeSorted(&c.insists) }

// Unheard returns a peer that announced address and is not heard otherwise, or "".
func (c *Core) Unheard(address netip.Addr) string {
	if e := c.lists[address]; e != nil {
		for _, w := range []word{e.before, e.after} {
			if c.counts(w) {
				return w.peer
			}
		}
	}
	return ""
}
