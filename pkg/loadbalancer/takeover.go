package loadbalancer

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// successorOf returns the candidate of list that answers in the place of the owner, or "".
// The nodes decide that among themselves; the plan follows them where more than one node's
// word stands for it: the owner itself, with a stream, claims the address no longer; or it
// has no stream, and every other candidate with a stream finds it down.
func (b *Balancer) successorOf(list plan.Assignment) string {
	if len(list.Candidates) == 0 {
		return ""
	}
	owner, others := list.Candidates[0], list.Candidates[1:]
	present := b.isConnected(owner)
	if present && (b.hasClaimed(owner, list.Address) || b.announcer[owner].report.Plan.Compare(list.Version) < 0) {
		return ""
	}
	if !present && !b.agreeDown(owner, others) {
		return ""
	}
	return b.claimantOf(slices.DeleteFunc(slices.Clone(others), func(name string) bool {
		return present && name == b.plan.handingOver[list.Address] // it goes on until it hears the owner
	}), list.Address)
}

// agreeDown reports whether each of the nodes that has a stream finds node down, and there
// is one.
func (b *Balancer) agreeDown(node string, others []string) bool {
	asked := 0
	for _, name := range others {
		if !b.isConnected(name) {
			continue
		}
		if asked++; !slices.Contains(b.announcer[name].report.Down, node) {
			return false
		}
	}
	return asked > 0
}

// noteContested notes whether another candidate than the owner of address claims it.
func (b *Balancer) noteContested(address netip.Addr) {
	p := &b.plan
	delete(p.contested, address)
	list, ok := p.lists[address]
	if !ok {
		return
	}
	if slices.ContainsFunc(list.Candidates[1:], func(name string) bool { return b.hasClaimed(name, address) }) {
		p.contested[address] = true
	}
}

// markReported marks the addresses dirty of which node said, or its silence says, that they move
// or have moved.
func (b *Balancer) markReported(node string) {
	p := &b.plan
	for address := range p.contested {
		if list := p.lists[address]; slices.Contains(list.Candidates, node) && b.successorOf(list) != "" {
			p.markDirty(address)
		}
	}
	for address, leaver := range p.handingOver {
		if owner := p.ownerOf(address); (owner == node || leaver == node) && !b.stillLeaving(leaver, owner, address) {
			p.markDirty(address)
		}
	}
}
