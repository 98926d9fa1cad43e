package failover

import "time"

// Standing is how a node stands with others than one peer, which tells the two apart where both
// claim an address.
type Standing struct {
	// Alone reports whether the node hears none of the others it watches.
	Alone bool
	// Company reports whether it hears one of them and is heard by it, and has been for the detection time:
	// a node that keeps changing which nodes it says it hears is no company.
	Company bool
}

// bidirectional is how a peer stands with this node and others.
type bidirectional struct {
	// since is when the two began to hear each other, 0 where they do not; kept reports that this
	// has lasted for the detection time.
	since time.Duration
	kept  bool
	// mine is how this node stands with others than the peer, its how the peer reports that it
	// stands with others than this node.
	mine, its Standing
}

// setBidirectional takes whether the node and the peer hear each other.
func (c *bidirectional) setBidirectional(now time.Duration, yes bool) {
	switch {
	case !yes:
		c.since, c.kept = 0, false
	case c.since == 0:
		c.since = now
	}
}

// updateStandings finds out how the node stands with regard to each peer, and marks the addresses dirty
// for which that may decide between claims.
func (c *Node) updateStandings(now time.Duration) {
	alone, accompanied := c.isAlone(), c.bidirectionalPeers > 0
	c.up, c.bidirectionalPeers = 0, 0
	for _, p := range c.sorted {
		p.bidirectional.kept = p.bidirectional.since != 0 && now >= p.bidirectional.since+c.detect
		if p.bidirectional.kept {
			c.bidirectionalPeers++
		}
		if p.state == Up {
			c.up++
		}
	}
	for _, p := range c.sorted {
		if mine := c.standingWithout(p); mine != p.bidirectional.mine {
			p.bidirectional.mine = mine
			c.markClaimsDirty(p)
		}
	}
	if alone != c.isAlone() || accompanied != (c.bidirectionalPeers > 0) {
		c.markContestedDirty()
	}
}

// markContestedDirty marks the addresses dirty that a peer was heard to announce.
func (c *Node) markContestedDirty() {
	for address, e := range c.lists {
		if len(e.records) > 0 {
			c.dirty.Add(address)
		}
	}
}

// isAlone reports whether the node hears none of several peers.
func (c *Node) isAlone() bool { return len(c.sorted) > 1 && c.up == 0 }

// standingWithout returns how the node stands with others than p. Of two nodes neither is alone.
func (c *Node) standingWithout(p *peer) Standing {
	up, companions := c.up, c.bidirectionalPeers
	if p.state == Up {
		up--
	}
	if p.bidirectional.kept {
		companions--
	}
	return Standing{Alone: len(c.sorted) > 1 && up == 0, Company: companions > 0}
}
