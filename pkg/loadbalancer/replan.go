package loadbalancer

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// refreshMesh looks at the neighbourhoods of nodes again, where nodes have come, gone or changed.
// Addresses of nodes that would watch too many others are decided again.
func (b *Balancer) refreshMesh() {
	p := &b.plan
	if !p.meshDirty {
		return
	}
	p.meshDirty = false
	for _, name := range b.sessions.setNeighbours(ringNeighbours(b.ringsOf(""), b.sessions.limit)) {
		for address := range p.addressesByNode[name] {
			p.markDirty(address)
		}
	}
	b.lendSessions()
}

// lendSessions marks the addresses dirty that lack a backup, or one of another zone, for
// want of sessions, where some have become free.
func (b *Balancer) lendSessions() {
	if !b.sessions.freed {
		return
	}
	b.sessions.freed = false
	for address := range b.plan.underReplicated {
		b.plan.markDirty(address)
	}
	for address := range b.plan.zoneForced {
		b.plan.markDirty(address)
	}
}

// Decided returns the addresses that Plan has decided anew since the last call, sorted.
func (b *Balancer) Decided() []netip.Addr {
	out := slices.SortedFunc(maps.Keys(b.plan.decided), netip.Addr.Compare)
	b.plan.decided = map[netip.Addr]bool{}
	return out
}

// takeDirty returns the addresses to decide, sorted, and empties the list.
func (b *Balancer) takeDirty() []netip.Addr {
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

// placeAddress makes the list of one address and notes the nodes that get another plan by
// it.
func (b *Balancer) placeAddress(address netip.Addr, next plan.Version, changed changes, routes routeChanges) {
	p := &b.plan
	if b.routeAddress(address, next, routes) {
		p.decided[address] = true
	}
	old := p.lists[address]
	list := plan.Assignment{Address: address, Version: old.Version}
	b.sessions.dropList(old.Candidates)
	delete(p.underReplicated, address)
	delete(p.zoneForced, address)
	if l2, ok := b.l2[b.addresses.PoolOf(address)]; ok && len(b.addresses.Holders(address)) > 0 {
		// An address that no node may answer for has no list, and so no interface either.
		if list.Candidates = b.placeCandidates(address, l2, old); len(list.Candidates) > 0 {
			list.Interface, list.HealthPort = b.interfaceSelector(l2, address), b.healthPort(address)
		}
	} else {
		b.unmarkDraining(address)
		delete(p.handingOver, address)
		delete(p.withdrawn, address)
		b.rebalancing.forgetAddress(address)
	}
	b.explainUnplaced(address, len(list.Candidates) == 0)
	b.noteWants(address, list.Candidates)
	if slices.Equal(list.Candidates, old.Candidates) && list.Interface == old.Interface && list.HealthPort == old.HealthPort {
		return
	}
	p.decided[address] = true
	list.Version, list.Former = next, plan.FormerCandidates(old, list.Candidates)
	p.replaceList(old, list)
	b.acknowledgeFrom(old, list)
	b.sessions.noteReplaced(old.Candidates, list.Candidates)
	b.noteContested(address)
	if p.contested[address] && b.successorOf(list) != "" {
		p.markDirty(address)
	}
	for _, name := range old.Candidates {
		changed.addAddress(name, address)
	}
	for _, name := range list.Candidates {
		changed.addAddress(name, address)
	}
}

// noteWants notes what address lacks that some node may have: see markNodeDirty.
func (b *Balancer) noteWants(address netip.Addr, candidates []string) {
	p := &b.plan
	delete(p.wantsBackup, address)
	delete(p.sameZone, address)
	if _, ok := b.l2[b.addresses.PoolOf(address)]; !ok || !b.hasEndpoint(address, ipam.FamilyOf(address)) {
		return
	}
	backupNodes := len(candidates) - 1
	if p.handingOver[address] != "" {
		backupNodes--
	}
	if backupNodes < backups {
		p.wantsBackup[address] = true
	}
	if len(candidates) > 0 && !slices.ContainsFunc(candidates[1:backupNodes+1], b.inOtherZone(candidates[0])) {
		p.sameZone[address] = true
	}
}

// acknowledgeFrom notes from which version on a claim acknowledges list, which takes the place of old.
func (b *Balancer) acknowledgeFrom(old, list plan.Assignment) {
	p := &b.plan
	switch {
	case len(list.Candidates) == 0:
		delete(p.acknowledgedFrom, list.Address)
	case len(old.Candidates) == 0 && b.hasClaimed(list.Candidates[0], list.Address):
		p.acknowledgedFrom[list.Address] = plan.Version{}
	case len(old.Candidates) == 0:
		p.acknowledgedFrom[list.Address] = list.Version
	}
}

// changes are, by node, the addresses with changed lists, in the order in which they were
// decided. An address that was decided twice may be there twice.
type changes map[string][]netip.Addr

// addAddress adds an address.
func (c changes) addAddress(node string, address netip.Addr) { c[node] = append(c[node], address) }

// addNode notes that the plan of node has something else to tell than lists.
func (c changes) addNode(node string) {
	if c[node] == nil {
		c[node] = []netip.Addr{}
	}
}

// explainUnplaced keeps why no node may answer for an address that is held and has no list.
func (b *Balancer) explainUnplaced(address netip.Addr, none bool) {
	p := &b.plan
	pool := b.addresses.PoolOf(address)
	if _, l2 := b.l2[pool]; !l2 && len(b.bgp.Pools[pool]) > 0 {
		none = false // another way is announced, which has its own reasons
	}
	if !none || len(b.addresses.Holders(address)) == 0 {
		delete(p.unplaced, address)
		return
	}
	verdict := b.noCandidate(address)
	if from := p.withdrawn[address]; from != "" {
		verdict = Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("address %s waits for node %s to hand it over", address, from)}
	}
	if p.unplaced[address] != verdict {
		p.unplaced[address] = verdict
		p.decided[address] = true
	}
}

// replaceList puts list in the place of old.
func (p *planState) replaceList(old, list plan.Assignment) {
	for i, name := range old.Candidates {
		delete(p.addressesByNode[name], old.Address)
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
		if p.addressesByNode[name] == nil {
			p.addressesByNode[name] = map[netip.Addr]bool{}
		}
		p.addressesByNode[name][list.Address] = true
		if i == 0 {
			p.owned[name]++
		}
	}
}
