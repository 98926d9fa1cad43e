package sight

import "time"

// Standing is how a node stands with others than one peer, which tells the two apart where both
// claim an address.
type Standing struct {
	// Alone says that the node hears none of the others it watches.
	Alone bool
	// Company says that it hears one of them and is heard by it, and has been for the detection time:
	// a node that says now this and now that of whom it hears is no company.
	Company bool
}

// company is what a peer is to this node and others.
type company struct {
	// since is when the two began to hear each other, 0 where they do not; kept says that this
	// has lasted for the detection time.
	since time.Duration
	kept  bool
	// mine is how this node stands with others than the peer, its how the peer says that it
	// stands with others than this node.
	mine, its Standing
}

// together takes whether the node and the peer hear each other.
func (c *company) together(now time.Duration, yes bool) {
	switch {
	case !yes:
		c.since, c.kept = 0, false
	case c.since == 0:
		c.since = now
	}
}

// regroup finds out how the node stands with regard to each peer, and has those addresses decided
// about anew of whose claims that may tell.
func (c *Core) regroup(now time.Duration) {
	alone, accompanied := c.alone(), c.companions > 0
	c.up, c.companions = 0, 0
	for _, p := range c.sorted {
		p.company.kept = p.company.since != 0 && now >= p.company.since+c.detect
		if p.company.kept {
			c.companions++
		}
		if p.state == Up {
			c.up++
		}
	}
	for _, p := range c.sorted {
		if mine := c.standing(p); mine != p.company.mine {
			p.company.mine = mine
			c.remark(p)
		}
	}
	if alone != c.alone() || accompanied != (c.companions > 0) {
		c.remarkContested()
	}
}

// remarkContested has those addresses decided about anew that a peer was heard to announce.
func (c *Core) remarkContested() {
	for address, e := range c.lists {
		if len(e.words) > 0 {
			c.dirty.Add(address)
		}
	}
}

// alone says that the node hears none of several peers.
func (c *Core) alone() bool { return len(c.sorted) > 1 && c.up == 0 }

// standing returns how the node stands with others than p. Of two nodes neither is alone.
func (c *Core) standing(p *peer) Standing {
	up, companions := c.up, c.companions
	if p.state == Up {
		up--
	}
	if p.company.kept {
		companions--
	}
	return Standing{Alone: len(c.sorted) > 1 && up == 0, Company: companions > 0}
}
