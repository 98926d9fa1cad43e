package loadbalancer

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// successor returns the candidate of list that answers in the place of the owner, or "".
// The nodes decide that among themselves; the plan follows them where more than one node's
// word stands for it: the owner itself, with a stream, claims the address no longer; or it
// has no stream, and every other candidate with a stream finds it down.
func (b *Balancer) successor(list announcement.Announcement) string {
	if len(list.Candidates) == 0 {
		return ""
	}
	owner, others := list.Candidates[0], list.Candidates[1:]
	present := b.connected(owner)
	if present && (b.claims(owner, list.Address) || b.announcer[owner].report.Plan.Compare(list.Stamp) < 0) {
		return ""
	}
	if !present && !b.agreeDown(owner, others) {
		return ""
	}
	return b.claimant(slices.DeleteFunc(slices.Clone(others), func(name string) bool {
		return present && name == b.plan.leaving[list.Address] // it goes on until it hears the owner
	}), list.Address)
}

// agreeDown reports whether each of the nodes that has a stream finds node down, and there
// is one.
func (b *Balancer) agreeDown(node string, others []string) bool {
	asked := 0
	for _, name := range others {
		if !b.connected(name) {
			continue
		}
		if asked++; !slices.Contains(b.announcer[name].report.Down, node) {
			return false
		}
	}
	return asked > 0
}

// contest notes whether another candidate than the owner of address claims it.
func (b *Balancer) contest(address netip.Addr) {
	p := &b.plan
	delete(p.contested, address)
	list, ok := p.lists[address]
	if !ok {
		return
	}
	if slices.ContainsFunc(list.Candidates[1:], func(name string) bool { return b.claims(name, address) }) {
		p.contested[address] = true
	}
}

// react has the addresses decided again of which node said, or its silence says, that they
// move or have moved.
func (b *Balancer) react(node string) {
	p := &b.plan
	for address := range p.contested {
		if list := p.lists[address]; slices.Contains(list.Candidates, node) && b.successor(list) != "" {
			p.touch(address)
		}
	}
	for address, leaver := range p.leaving {
		if owner := p.owner(address); (owner == node || leaver == node) && !b.leaves(leaver, owner, address) {
			p.touch(address)
		}
	}
}
