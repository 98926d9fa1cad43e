package loadbalancer

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/ipam"
)

// candidateSet holds the nodes in question for one address. It looks at every node only on
// demand: an unchanged address does not need that.
type candidateSet struct {
	b       *Balancer
	address netip.Addr
	l2      L2
	able    []string
	known   bool
}

// rankedNodes returns the nodes that may answer for the address, in rendezvous order.
func (f *candidateSet) rankedNodes() []string {
	if !f.known {
		f.known = true
		if !f.b.hasEndpoint(f.address, ipam.FamilyOf(f.address)) {
			return nil
		}
		for name, n := range f.b.nodes {
			if f.b.mayAnswerFor(n, f.address, f.l2) == "" {
				f.able = append(f.able, name)
			}
		}
		rankNodes(f.able, f.address)
	}
	return f.able
}

// canRelieve reports whether another node than owner could take the address over, and has no
// reason to be drained itself.
func (f *candidateSet) canRelieve(owner string) bool {
	for name, n := range f.b.nodes {
		if name != owner && f.b.isConnected(name) && f.b.unhealthyReason(name) == "" && f.b.mayAnswerFor(n, f.address, f.l2) == "" {
			return true
		}
	}
	return false
}

// backupsFirst returns the ranked nodes, those that are backups already first: they know of
// the address, and hear the node that answers for it now.
func (f *candidateSet) backupsFirst(old []string) []string {
	out := make([]string, 0, len(f.rankedNodes()))
	for _, name := range old {
		if slices.Contains(f.rankedNodes(), name) {
			out = append(out, name)
		}
	}
	for _, name := range f.rankedNodes() {
		if !slices.Contains(old, name) {
			out = append(out, name)
		}
	}
	return out
}

// chooseBackups returns the backups of list, which begins with the owner, and counts their
// sessions. Those that were backups before stay, and one of another zone comes first. A node that
// reported that it cannot answer is taken only where there are not enough others, and last.
func (f *candidateSet) chooseBackups(list, old []string) []string {
	elsewhere := f.b.inOtherZone(list[0])
	out := f.keptBackups(list, old)
	if !slices.ContainsFunc(out, elsewhere) {
		out = f.diversifyZones(list, out, elsewhere)
	}
	if len(out) < backups {
		out = f.fillBackups(list, out)
	}
	order := func(name string) int {
		switch {
		case f.b.isUnable(name, f.address):
			return 2
		case elsewhere(name):
			return 0
		}
		return 1
	}
	slices.SortStableFunc(out, func(x, y string) int { return order(x) - order(y) })
	return out
}

// keptBackups returns the backups in old that may stay.
func (f *candidateSet) keptBackups(list, old []string) []string {
	var out []string
	for i, name := range old {
		n, ok := f.b.nodes[name]
		if i == 0 || !ok || len(out) == backups || slices.Contains(list, name) ||
			f.b.mayAnswerFor(n, f.address, f.l2) != "" || f.b.isUnable(name, f.address) {
			continue
		}
		if f.b.sessions.joinList(slices.Concat(list, out), name) {
			out = append(out, name)
		}
	}
	return out
}

// diversifyZones puts a node of another zone in the place of the last backup, if there is one.
func (f *candidateSet) diversifyZones(list, out []string, elsewhere func(string) bool) []string {
	if !f.b.otherZones(list[0]) {
		return out
	}
	rest := out[:min(len(out), backups-1)]
	for _, name := range out[len(rest):] {
		f.b.sessions.leaveList(slices.Concat(list, rest), name)
	}
	for _, name := range f.rankedNodes() {
		if !elsewhere(name) || !f.b.isConnected(name) || slices.Contains(list, name) || f.b.isUnable(name, f.address) {
			continue
		}
		if f.b.sessions.joinList(slices.Concat(list, rest), name) {
			return append(rest, name)
		}
		f.b.plan.zoneForced[f.address] = true
	}
	for _, name := range out[len(rest):] {
		if f.b.sessions.joinList(slices.Concat(list, rest), name) {
			rest = append(rest, name)
		}
	}
	return rest
}

// fillBackups adds backups up to their number: neighbours of the owner first, as their
// sessions stand already. It notes where a node could not be added because a node would have
// to watch too many.
func (f *candidateSet) fillBackups(list, out []string) []string {
	refused := false
	for _, c := range []struct{ unable, standing bool }{{false, true}, {false, false}, {true, true}, {true, false}} {
		for _, name := range f.rankedNodes() {
			if len(out) == backups {
				return out
			}
			if !f.b.isConnected(name) || f.b.isUnable(name, f.address) != c.unable || f.b.sessions.areNeighbours(list[0], name) != c.standing ||
				slices.Contains(list, name) || slices.Contains(out, name) {
				continue
			}
			if f.b.sessions.joinList(slices.Concat(list, out), name) {
				out = append(out, name)
			} else {
				refused = true
			}
		}
	}
	if refused {
		f.b.plan.underReplicated[f.address] = true
	}
	return out
}

// inOtherZone returns whether a node is known to be in another zone than that one.
func (b *Balancer) inOtherZone(than string) func(string) bool {
	zone := b.nodes[than].Zone
	return func(name string) bool { return zone != "" && b.nodes[name].Zone != "" && b.nodes[name].Zone != zone }
}

// otherZones reports whether any node is in another zone than that one.
func (b *Balancer) otherZones(than string) bool {
	zone := b.nodes[than].Zone
	others := len(b.zones)
	if b.zones[zone] > 0 {
		others--
	}
	return zone != "" && others > 0
}
