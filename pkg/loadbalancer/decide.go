package loadbalancer

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// settle looks at the neighbourhoods of nodes again, where nodes have come, gone or changed.
// Addresses of nodes that would watch too many others are decided again.
func (b *Balancer) settle() {
	p := &b.plan
	if !p.moved {
		return
	}
	p.moved = false
	for _, name := range b.sessions.stand(neighbours(b.circles(""), b.sessions.limit)) {
		for address := range p.members[name] {
			p.touch(address)
		}
	}
	b.lendSessions()
}

// lendSessions has the addresses decided again that lack a backup, or one of another zone,
// for want of sessions, where some have become free.
func (b *Balancer) lendSessions() {
	if !b.sessions.freed {
		return
	}
	b.sessions.freed = false
	for address := range b.plan.short {
		b.plan.touch(address)
	}
	for address := range b.plan.unmixed {
		b.plan.touch(address)
	}
}

// Decided returns the addresses that Plan has decided anew since the last call, sorted.
func (b *Balancer) Decided() []netip.Addr {
	out := slices.SortedFunc(maps.Keys(b.plan.decided), netip.Addr.Compare)
	b.plan.decided = map[netip.Addr]bool{}
	return out
}

// undecided returns the addresses to decide, sorted, and empties the list.
func (b *Balancer) undecided() []netip.Addr {
	p := &b.plan
	if p.all {
		for address := range p.lists {
			p.dirty[address] = true
		}
		for _, s := range b.services {
			for _, a := range b.addresses.Held(s.Holder.UID) {
				p.dirty[a.Address] = true
			}
		}
	}
	out := slices.SortedFunc(maps.Keys(p.dirty), netip.Addr.Compare)
	p.dirty, p.all = map[netip.Addr]bool{}, false
	return out
}

// decide makes the list of one address and notes whose plan that changes.
func (b *Balancer) decide(address netip.Addr, next announcement.Stamp, changed changes, routes routeChanges) {
	p := &b.plan
	if b.route(address, next, routes) {
		p.decided[address] = true
	}
	old := p.lists[address]
	list := announcement.Announcement{Address: address, Stamp: old.Stamp}
	b.sessions.drop(old.Candidates)
	delete(p.short, address)
	delete(p.unmixed, address)
	if l2, ok := b.l2[b.addresses.PoolOf(address)]; ok && len(b.addresses.Holders(address)) > 0 {
		// An address that nobody may answer for has no list, and so no interface either.
		if list.Candidates = b.place(address, l2, old); len(list.Candidates) > 0 {
			list.Interface, list.HealthPort = b.selector(l2, address), b.healthPort(address)
		}
	} else {
		b.unstick(address)
		delete(p.leaving, address)
		delete(p.withdrawn, address)
		b.rebalancing.forget(address)
	}
	b.explain(address, len(list.Candidates) == 0)
	b.want(address, list.Candidates)
	if slices.Equal(list.Candidates, old.Candidates) && list.Interface == old.Interface && list.HealthPort == old.HealthPort {
		return
	}
	p.decided[address] = true
	list.Stamp, list.Former = next, announcement.FormerCandidates(old, list.Candidates)
	p.replace(old, list)
	b.give(old, list)
	b.sessions.replaced(old.Candidates, list.Candidates)
	b.contest(address)
	if p.contested[address] && b.successor(list) != "" {
		p.touch(address)
	}
	for _, name := range old.Candidates {
		changed.note(name, address)
	}
	for _, name := range list.Candidates {
		changed.note(name, address)
	}
}

// want notes what address lacks that some node may have: see nodeChanged.
func (b *Balancer) want(address netip.Addr, candidates []string) {
	p := &b.plan
	delete(p.wanting, address)
	delete(p.uniform, address)
	if _, ok := b.l2[b.addresses.PoolOf(address)]; !ok || !b.anywhere(address, ipam.FamilyOf(address)) {
		return
	}
	standby := len(candidates) - 1
	if p.leaving[address] != "" {
		standby--
	}
	if standby < backups {
		p.wanting[address] = true
	}
	if len(candidates) > 0 && !slices.ContainsFunc(candidates[1:standby+1], b.elsewhere(candidates[0])) {
		p.uniform[address] = true
	}
}

// give notes from which stamp on a claim acknowledges list, which takes the place of old.
func (b *Balancer) give(old, list announcement.Announcement) {
	p := &b.plan
	switch {
	case len(list.Candidates) == 0:
		delete(p.given, list.Address)
	case len(old.Candidates) == 0 && b.claims(list.Candidates[0], list.Address):
		p.given[list.Address] = announcement.Stamp{}
	case len(old.Candidates) == 0:
		p.given[list.Address] = list.Stamp
	}
}

// changes are the addresses whose lists changed, by node, in the order in which they
// were decided. An address that was decided twice may be there twice.
type changes map[string][]netip.Addr

// note adds an address.
func (c changes) note(node string, address netip.Addr) { c[node] = append(c[node], address) }

// also notes that node is to be told something else than lists.
func (c changes) also(node string) {
	if c[node] == nil {
		c[node] = []netip.Addr{}
	}
}

// explain keeps why no node may answer for an address that is held and has no list.
func (b *Balancer) explain(address netip.Addr, none bool) {
	p := &b.plan
	pool := b.addresses.PoolOf(address)
	if _, l2 := b.l2[pool]; !l2 && len(b.bgp.Pools[pool]) > 0 {
		none = false // another way is announced, which has its own reasons
	}
	if !none || len(b.addresses.Holders(address)) == 0 {
		delete(p.nobody, address)
		return
	}
	verdict := b.nobody(address)
	if from := p.withdrawn[address]; from != "" {
		verdict = Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("address %s waits for node %s to hand it over", address, from)}
	}
	if p.nobody[address] != verdict {
		p.nobody[address] = verdict
		p.decided[address] = true
	}
}

// replace puts list in the place of old.
func (p *plan) replace(old, list announcement.Announcement) {
	for i, name := range old.Candidates {
		delete(p.members[name], old.Address)
		if i == 0 {
			p.owned[name]--
		}
	}
	delete(p.lists, list.Address)
	if len(list.Candidates) == 0 {
		return
	}
	p.lists[list.Address] = list
	for i, name := range list.Candidates {
		if p.members[name] == nil {
			p.members[name] = map[netip.Addr]bool{}
		}
		p.members[name][list.Address] = true
		if i == 0 {
			p.owned[name]++
		}
	}
}
