package failover

import "time"

// Outlet is whether what a node sends to its peers leaves the node, by each of its interfaces, which
// it knows by their indexes. The zero value has sent nothing.
//
// What does not leave tells peers nothing. So while a node hears peers and sends them nothing it
// answers for no longer than they wait, unless no other claims by then what it has: it would hear
// that. One that sends nothing and hears none cannot tell whether it is the only one that a firewall
// keeps from speaking. It goes on, and contests what it has by what it announces.
type Outlet struct {
	// went is when packets went to all peers last and one of them left the node, and failing
	// since when none leaves by an interface.
	went    time.Duration
	failing map[int]failure
}

// failure is that nothing can be sent by an interface.
type failure struct {
	since time.Duration
	why   string
}

// Sent takes that a packet left by an interface, or could not: then why says so.
func (o *Outlet) Sent(now time.Duration, index int, why string) {
	if why == "" {
		delete(o.failing, index)
		return
	}
	if _, known := o.failing[index]; known {
		return
	}
	if o.failing == nil {
		o.failing = map[int]failure{}
	}
	o.failing[index] = failure{now, why}
}

// Flushed takes whether any of what Flush returned left the node, or there was nothing; before is
// what Rounds was before.
func (o *Outlet) Flushed(now time.Duration, c *Node, before uint64, left bool) {
	if c.rounds != before {
		c.stuck = !left
	}
	closed := now >= o.went+c.detect
	switch {
	case c.stuck && c.up == 0:
		o.went = now
	case c.rounds != before && (left || o.mute(now, c)):
		o.went = c.round
	}
	if closed && now < o.went+c.detect {
		// Another one may answer meanwhile of which this node does not know.
		for claim := range c.claims.held.All() {
			c.toReannounceNow[claim.Address] = true
		}
	}
}

// mute reports whether nothing has left the node for so long that others have claimed what it has, if
// they do.
func (o *Outlet) mute(now time.Duration, c *Node) bool {
	for _, f := range o.failing {
		if !f.lasts(now, c) {
			return false
		}
	}
	return len(o.failing) > 0
}

// lasts reports whether peers have taken the node for down, and two intervals have passed since.
func (f failure) lasts(now time.Duration, c *Node) bool { return now >= f.since+c.detect+2*c.interval }

// Deadline returns until when the node may answer for what it claims; zero is without end, where it
// watches no peer. It counts from before the first of the packets that went to all peers last.
func (o *Outlet) Deadline(c *Node) time.Duration {
	if len(c.peers) == 0 {
		return 0
	}
	return o.went + c.detect
}

// Keep forgets all interfaces but those in use.
func (o *Outlet) Keep(used func(index int) bool) {
	for index := range o.failing {
		if !used(index) {
			delete(o.failing, index)
		}
	}
}

// Mute returns, by interface, why nothing has left there for a while; heard reports that a peer is
// heard there. The others are those where none is.
func (o *Outlet) Mute(now time.Duration, c *Node, heard func(index int) bool) (mute, others map[int]string) {
	for index, f := range o.failing {
		if !f.lasts(now, c) {
			continue
		}
		into := &others
		if heard(index) {
			into = &mute
		}
		if *into == nil {
			*into = map[int]string{}
		}
		(*into)[index] = f.why
	}
	return mute, others
}
