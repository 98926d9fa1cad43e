package announcer

import (
	"net/netip"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
)

const (
	// maxClaimants is how many machines are kept for one address, and maxClaimantsInAll for all
	// addresses of a table. A machine that invents hardware addresses fills what is left, and
	// pushes out none that was heard before it.
	maxClaimants      = 4
	maxClaimantsInAll = 1024
)

// claimants are other machines by the address that they have. Their number is bounded.
type claimants struct {
	by    map[netip.Addr]map[probe.Holder]sighting
	count int
}

// sighting is when a machine was first and last heard.
type sighting struct {
	since int64
	last  time.Duration
}

func newClaimants() claimants {
	return claimants{by: map[netip.Addr]map[probe.Holder]sighting{}}
}

// findHolder returns when h was heard, and whether it is kept.
func (c *claimants) findHolder(h probe.Holder) (sighting, bool) {
	s, known := c.by[h.Address][h]
	return s, known
}

// setHolder keeps when h was heard, and reports whether there was room for it.
func (c *claimants) setHolder(h probe.Holder, s sighting) bool {
	if _, known := c.findHolder(h); !known {
		if len(c.by[h.Address]) >= maxClaimants || c.count >= maxClaimantsInAll {
			return false
		}
		c.count++
	}
	if c.by[h.Address] == nil {
		c.by[h.Address] = map[probe.Holder]sighting{}
	}
	c.by[h.Address][h] = s
	return true
}

// removeAddress forgets all machines that have address, and returns them.
func (c *claimants) removeAddress(address netip.Addr) map[probe.Holder]sighting {
	before := c.by[address]
	c.count -= len(before)
	delete(c.by, address)
	return before
}

// expireHolders forgets what was not heard for heardFor and what has an address that is not answered
// for, and reports whether there was any.
func (c *claimants) expireHolders(boot time.Duration, answers func(netip.Addr) bool) bool {
	before := c.count
	for address, by := range c.by {
		for h, s := range by {
			if boot >= s.last+heardFor {
				delete(by, h)
				c.count--
			}
		}
		if len(by) == 0 || !answers(address) {
			c.removeAddress(address)
		}
	}
	return c.count != before
}

// nextExpiry returns when to forget the first; 0 is never.
func (c *claimants) nextExpiry() time.Duration {
	next := time.Duration(0)
	for _, by := range c.by {
		for _, s := range by {
			next = earlierDuration(next, s.last+heardFor)
		}
	}
	return next
}
