package loadbalancer

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// conflicts is what is known of machines that are none of the cluster's nodes and have
// addresses of its pools.
type conflicts struct {
	// renew reports whether it is judged again, and next is when, though nothing has changed;
	// zero is never.
	renew bool
	next  time.Time
	// leads reports whether this replica tells of what happens.
	leads bool
	// finders are the nodes with findings in their last report, and hardware the hardware
	// addresses of the cluster's nodes; nil where they changed.
	finders  map[string]bool
	hardware map[string]bool
	// found are the machines of each address, by MAC.
	found map[netip.Addr][]Machine
	// owned are the addresses of pools that are known to be a node's or a router's.
	owned map[netip.Addr]Machine
	// tight reports whether a Service took an address of a pool that may now have too much in
	// quarantine.
	tight bool
	// quarantined are the free addresses that are not given out, contested those held that a
	// machine uses too, and spared those that are not in quarantine as half of what is free is.
	quarantined map[netip.Addr]*quarantine
	contested   map[netip.Addr]Machine
	spared      map[netip.Addr]bool
	// proxies are the MACs of those that have too much, by the number of addresses.
	proxies map[string]int
	// routers are the addresses of BGP peers.
	routers map[netip.Addr]bool
	news    []Conflict
	counts  map[ConflictKind]uint64
}

func newConflicts() conflicts {
	return conflicts{
		finders: map[string]bool{},
		found:   map[netip.Addr][]Machine{}, quarantined: map[netip.Addr]*quarantine{}, contested: map[netip.Addr]Machine{},
		spared: map[netip.Addr]bool{}, proxies: map[string]int{}, routers: map[netip.Addr]bool{}, counts: map[ConflictKind]uint64{},
	}
}

// suspectAddresses yields the addresses to ask for because a stranger has them, or had.
func (c *conflicts) suspectAddresses() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for address := range c.found {
		out[address] = true
	}
	for address, q := range c.quarantined {
		if q.machine.Owner == "" {
			out[address] = true
		}
	}
	return out
}

// markDirty marks the conflicts for another judgement if they may concern address, which a
// Service took or gave up.
func (c *conflicts) markDirty(address netip.Addr) {
	_, owned := c.owned[address]
	c.renew = c.renew || len(c.found[address]) > 0 || c.quarantined[address] != nil || owned
	c.tight = c.tight || len(c.quarantined) > 0
}

// heardFindings notes whether a report has news of machines, or of what was asked for.
func (b *Balancer) heardFindings(node string, before, after plan.Report, fresh bool) {
	if len(after.Findings) > 0 {
		b.conflicts.finders[node] = true
	} else {
		delete(b.conflicts.finders, node)
	}
	found := !slices.Equal(before.Findings, after.Findings)
	probed := before.Probed != after.Probed
	if found || fresh || probed && len(b.conflicts.quarantined)+len(b.conflicts.found) > 0 {
		b.conflicts.renew = true
	}
	if found || fresh || probed && len(b.probing.late) > 0 {
		b.probing.renew = true
	}
}

// Inspect judges what nodes say of other machines, and puts free addresses into quarantine or
// lets them out of it. It returns the addresses that Services hold and of which there is
// something new to say, and when to call it again though nothing has changed; 0 is never.
func (b *Balancer) Inspect(now time.Time) (changed []netip.Addr, again time.Duration) {
	c := &b.conflicts
	switch {
	case c.renew || !c.next.IsZero() && !now.Before(c.next):
		c.renew, c.tight, c.next = false, false, time.Time{}
		b.collectMachines()
		changed = b.updateContested()
		b.updateQuarantine(now)
	case c.tight:
		c.tight = false
		b.relaxQuarantine()
	}
	if !c.next.IsZero() {
		again = max(c.next.Sub(now), time.Millisecond)
	}
	return changed, again
}

// updateContested brings up to date which addresses that Services hold others use, and returns those
// of which there is news. One node's word is enough: only messages come of it.
func (b *Balancer) updateContested() (changed []netip.Addr) {
	c := &b.conflicts
	before := c.contested
	c.contested = map[netip.Addr]Machine{}
	for _, address := range c.usedAddresses() {
		m, ok := c.userOf(address)
		if !ok || len(b.addresses.Holders(address)) == 0 {
			continue
		}
		c.contested[address] = m
		if old, was := before[address]; !was {
			c.addNews(Conflict{Kind: Contested, Address: address, Pool: b.addresses.PoolOf(address), Machine: m})
			changed = append(changed, address)
		} else if old.MAC != m.MAC || old.Owner != m.Owner {
			changed = append(changed, address)
		}
	}
	for _, address := range sortedAddresses(before) {
		if _, still := c.contested[address]; !still {
			c.addNews(Conflict{Kind: Settled, Address: address, Pool: b.addresses.PoolOf(address), Machine: before[address]})
			changed = append(changed, address)
		}
	}
	return changed
}

func sortedAddresses[V any](m map[netip.Addr]V) []netip.Addr {
	return slices.SortedFunc(maps.Keys(m), netip.Addr.Compare)
}

// contestedVerdict says of the verdict on an address that is announced whether another machine uses
// it, too.
func (b *Balancer) contestedVerdict(address netip.Addr, v Verdict) Verdict {
	m, ok := b.conflicts.contested[address]
	if !ok || !v.OK {
		return v
	}
	return Verdict{OK: true, Reason: reason.AddressConflict, Message: fmt.Sprintf("%s; another machine uses %s too (%s), so that some clients may reach that one", v.Message, address, m)}
}
