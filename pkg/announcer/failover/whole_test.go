package failover

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// incomplete says what of the work of deciding about every list a core left undone, which
// decides only about those that something happened to, and about few at a time. It is asked
// after every Settle of every scenario and simulation.
func incomplete(now time.Duration, c *Node) error {
	var failures []error
	fail := func(format string, args ...any) { failures = append(failures, fmt.Errorf(format, args...)) }
	if c.all || c.dirty.Len() > 0 && c.Wake() > now {
		fail("%d to decide about, and the core is due at %s", c.dirty.Len(), c.Wake())
	}
	var digest Digest
	for claim := range c.claims.held.All() {
		digest.Toggle(claim)
		if c.lists[claim.Address] == nil && !c.dirty.Has(claim.Address) {
			fail("%s is claimed and in no list", claim.Address)
		}
	}
	if digest != c.claims.digest {
		fail("digest %x, want %x", c.claims.digest, digest)
	}
	wake, _ := c.again.Next() // The core itself is due at once while it has more to decide about.
	for address, e := range c.lists {
		own := c.claims.versionOf(address)
		if c.leaving || c.interval == 0 || c.dirty.Has(address) {
			continue
		}
		again := e.probed + askAgain
		if e.probe == Silent || e.probe == Answered {
			if now >= again {
				fail("%s was asked for too long ago", address)
			}
		} else {
			again = 0
		}
		decision := Decide(now, c.inputFor(address, own, e))
		if decision.Claim != own || decision.Probe {
			fail("%s: %+v, but claimed under %s", address, decision, own)
		}
		if due := earlierTime(decision.Again, again); due != 0 && (wake == 0 || wake > due) {
			fail("%s is due at %s, the core at %s", address, due, wake)
		}
	}
	claimants := 0
	for address, peers := range c.claimants {
		claimants += len(peers)
		for _, p := range peers {
			if !slices.Contains(c.sorted, p) || p.claims.versionOf(address).IsZero() {
				fail("%s does not claim %s", p.name, address)
			}
		}
	}
	for i, p := range c.sorted {
		claimants -= p.claims.held.Len()
		if p != c.peers[p.name] || i > 0 && p.name <= c.sorted[i-1].name {
			fail("peer %s is out of place", p.name)
		}
	}
	if claimants != 0 || len(c.sorted) != len(c.peers) {
		fail("%d claimants too many, %d peers of %d", claimants, len(c.sorted), len(c.peers))
	}
	return errors.Join(failures...)
}
