package loadbalancer

import (
	"cmp"
	"hash/fnv"
	"math"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

const (
	// backups is how many nodes stand by for an address beside its owner.
	backups = 2
	// headroom is how far above the mean a node's share may be before new addresses go
	// elsewhere.
	headroom = 1.1
)

// place returns the candidates for address in place of old, the owner first: the present
// owner while it may stay, else who answers already, else the node that rendezvous hashing
// with bounded load picks; then backups, the first in another zone where there is one; last
// the node that hands the address over, until it has. It returns nil where nobody may. The
// sessions that the list needs are counted as used.
func (b *Balancer) place(address netip.Addr, l2 L2, old announcement.Announcement) []string {
	f := field{b: b, address: address, l2: l2}
	owner := b.choose(&f, old)
	if owner == "" {
		return nil
	}
	list := []string{owner}
	if leaver := b.plan.leaving[address]; leaver != "" {
		if b.sessions.join(list, leaver) {
			list = append(list, leaver)
		} else {
			delete(b.plan.leaving, address)
		}
	}
	standby := f.standby(list, old.Candidates)
	return slices.Concat(list[:1], standby, list[1:])
}

// choose returns the owner of address in place of old, or "", and notes in the plan who
// hands it over to whom.
func (b *Balancer) choose(f *field, old announcement.Announcement) string {
	p := &b.plan
	present, told := p.withdrawn[f.address]
	if len(old.Candidates) > 0 {
		present = old.Candidates[0]
	}
	leaver, next := p.leaving[f.address], b.successor(old)
	relief := b.rebalancing.take(f.address)
	b.unstick(f.address)
	delete(p.withdrawn, f.address)
	delete(p.leaving, f.address)
	if present == "" {
		next = b.best(f.ranked(), f.address)
		if from := b.leaver(f); from != "" && next != "" {
			return b.handOver(f.address, from, next)
		}
		return next
	}
	if next != "" {
		present, leaver = next, ""
	}
	if !b.gavePlace(f, present) && b.stays(present, f) {
		if leaver == "" && b.relieve(f.address, present, relief) {
			p.leaving[f.address] = present
			return relief
		}
		if leaver != "" && b.leaves(leaver, present, f.address) {
			p.leaving[f.address] = leaver
		}
		return present
	}
	if told && b.watching() && b.mayAnswer(present, f) {
		p.withdrawn[f.address] = present
		return ""
	}
	reluctant := b.reluctance(present) != ""
	others := slices.DeleteFunc(f.preferring(old.Candidates), func(name string) bool {
		return name == present || reluctant && b.unhealthy(name) != ""
	})
	next = b.best(others, f.address)
	if next == "" || !b.mayAnswer(present, f) {
		return next
	}
	return b.handOver(f.address, present, next)
}

// best returns who of nodes is to answer for address: who does already, else one that can as
// far as is known, else any.
func (b *Balancer) best(nodes []string, address netip.Addr) string {
	able := b.fit(nodes, address)
	return cmp.Or(b.claimant(nodes, address), b.elect(b.onSegment(able, address), address), b.elect(able, address), b.elect(nodes, address))
}

// handOver has the node from, which may be answering for address, give way to another.
// Where the two hear each other nobody waits: both are told, and from goes on until it
// hears the other one claim. Else from is told first, and address is nobody's until it has
// stopped. Without sight there is nothing to hear, and both
// are told, as they are where the other one answers already.
func (b *Balancer) handOver(address netip.Addr, from, to string) string {
	p := &b.plan
	switch {
	case !b.watching() || b.claims(to, address):
	case b.hear(from, to):
		p.leaving[address] = from
	default:
		p.withdrawn[address] = from
		return ""
	}
	return to
}

// hear reports whether a session stands between two nodes, as far as is known. A leader that has
// told nobody anything believes so of all that do not find each other down: the leader before
// had them watch each other if one claims what the other may take.
func (b *Balancer) hear(x, y string) bool {
	first := len(b.plan.sets) == 0
	sees := func(from, to string) bool {
		return b.connected(from) && (first || watches(b.plan.sets[from].Sight, to)) && !slices.Contains(b.announcer[from].report.Down, to)
	}
	return sees(x, y) && sees(y, x)
}

// leaves reports whether leaver, which hands address over to owner, is still to hear of it.
func (b *Balancer) leaves(leaver, owner string, address netip.Addr) bool {
	_, known := b.nodes[leaver]
	return known && !b.claims(owner, address) && (b.claims(leaver, address) || b.connected(leaver) && b.behind(leaver))
}

// mayAnswer reports whether node answers for f's address or may be about to, and can be told
// to stop. One that says that it has no interface for the address will not, whatever its plan.
func (b *Balancer) mayAnswer(node string, f *field) bool {
	_, known := b.nodes[node]
	return known && b.connected(node) &&
		(b.claims(node, f.address) || b.behind(node) && b.carries(node, f.address, f.l2.Interface) == "")
}

// behind reports whether node has still to say that it carries out its newest plan.
func (b *Balancer) behind(node string) bool {
	return b.announcer[node].report.Plan.Compare(b.plan.sets[node].Stamp) < 0
}

// claims reports whether node claimed address when it last spoke.
func (b *Balancer) claims(node string, address netip.Addr) bool {
	_, ok := b.claim(node, address)
	return ok
}

// claim returns node's claim to address, if it had one when it last spoke.
func (b *Balancer) claim(node string, address netip.Addr) (announcement.Claim, bool) {
	known, ok := b.announcer[node]
	if !ok {
		return announcement.Claim{}, false
	}
	return known.report.Claims.Find(address)
}

// stays reports whether the owner of an address keeps it: while it is eligible, and
// while it cannot be told to stop although it may still be answering. Taking an address
// from a node that is out of reach would make two answerers. One that is reluctant keeps
// it where nobody else may take it.
func (b *Balancer) stays(owner string, f *field) bool {
	n, ok := b.nodes[owner]
	switch {
	case !ok:
		return false
	case !b.connected(owner):
		return true
	case b.eligible(n, f.address, f.l2) != "":
		return false
	case b.reluctance(owner) == "":
		return true
	case f.relieved(owner):
		return false
	}
	b.stick(f.address)
	return true
}

// claimant returns which of nodes, with a stream, already answers for address, or "": of
// several the one whose claim has the highest stamp, then the one that spoke last. A node
// that was cut off, and its stream not yet, is known to claim what it claimed before.
func (b *Balancer) claimant(nodes []string, address netip.Addr) string {
	best := ""
	var held announcement.Claim
	for _, name := range nodes {
		c, ok := b.claim(name, address)
		if !ok || !b.connected(name) {
			continue
		}
		if best == "" || cmp.Or(c.Stamp.Compare(held.Stamp), cmp.Compare(b.announcer[name].spoke, b.announcer[best].spoke)) > 0 {
			best, held = name, c
		}
	}
	return best
}

// elect returns the first connected node in rendezvous order whose share is below the
// bound (consistent hashing with bounded loads, Mirrokni et al. 2016).
func (b *Balancer) elect(able []string, address netip.Addr) string {
	reachable := slices.DeleteFunc(slices.Clone(able), func(name string) bool { return !b.connected(name) })
	willing := slices.DeleteFunc(slices.Clone(reachable), func(name string) bool { return b.unhealthy(name) != "" })
	if len(willing) > 0 {
		reachable = willing
	}
	if len(reachable) == 0 {
		return ""
	}
	total := 1 // with this address
	for _, name := range reachable {
		total += b.plan.owned[name]
	}
	mean := float64(total) / float64(len(reachable))
	bound := int(max(math.Ceil(mean), math.Floor(headroom*mean)))
	for _, name := range reachable {
		if b.plan.owned[name] < bound {
			return name
		}
	}
	return reachable[0]
}

// rank sorts nodes by their rendezvous hash with address, highest first.
func rank(nodes []string, address netip.Addr) {
	weights := make(map[string]uint64, len(nodes))
	for _, name := range nodes {
		weights[name] = weight(name, address)
	}
	slices.SortFunc(nodes, func(x, y string) int {
		return cmp.Or(cmp.Compare(weights[y], weights[x]), cmp.Compare(x, y))
	})
}

// weight is the rendezvous hash of a node and an address. It must not change between
// versions and processes, or a change of leader would move addresses.
func weight(node string, address netip.Addr) uint64 {
	h := fnv.New64a()
	h.Write([]byte(node))
	h.Write([]byte{0})
	h.Write(address.AsSlice())
	// FNV mixes its last bytes badly; the finaliser of splitmix64 mends that.
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
