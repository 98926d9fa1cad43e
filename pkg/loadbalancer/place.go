package loadbalancer

import (
	"cmp"
	"hash/fnv"
	"math"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// backups is how many backups an address has beside its owner.
	backups = 2
	// headroom is how far above the mean a node's share may be before new addresses go
	// elsewhere.
	headroom = 1.1
)

// placeCandidates returns the candidates for address in place of old, the owner first: the present
// owner while it may stay, else the node that answers already, else the node that rendezvous
// hashing with bounded load picks; then backups, the first in another zone where there is one;
// last the node that hands the address over, until it has. It returns nil where no node may
// answer. The sessions that the list needs are counted as used.
func (b *Balancer) placeCandidates(address netip.Addr, l2 L2, old plan.Assignment) []string {
	f := candidateSet{b: b, address: address, l2: l2}
	owner := b.chooseOwner(&f, old)
	if owner == "" {
		return nil
	}
	list := []string{owner}
	if leaver := b.plan.handingOver[address]; leaver != "" {
		if b.sessions.joinList(list, leaver) {
			list = append(list, leaver)
		} else {
			delete(b.plan.handingOver, address)
		}
	}
	backupNodes := f.chooseBackups(list, old.Candidates)
	return slices.Concat(list[:1], backupNodes, list[1:])
}

// chooseOwner returns the owner of address in place of old, or "", and notes in the plan
// which node hands it over to which.
func (b *Balancer) chooseOwner(f *candidateSet, old plan.Assignment) string {
	p := &b.plan
	present, told := p.withdrawn[f.address]
	if len(old.Candidates) > 0 {
		present = old.Candidates[0]
	}
	leaver, next := p.handingOver[f.address], b.successorOf(old)
	relief := b.rebalancing.takeMove(f.address)
	b.unmarkDraining(f.address)
	delete(p.withdrawn, f.address)
	delete(p.handingOver, f.address)
	if present == "" {
		next = b.bestOwner(f.rankedNodes(), f.address)
		if from := b.leavingOwner(f); from != "" && next != "" {
			return b.handOver(f.address, from, next)
		}
		return next
	}
	if next != "" {
		present, leaver = next, ""
	}
	if !b.gavePlace(f, present) && b.ownerStays(present, f) {
		if leaver == "" && b.movesForBalance(f.address, present, relief) {
			p.handingOver[f.address] = present
			return relief
		}
		if leaver != "" && b.stillLeaving(leaver, present, f.address) {
			p.handingOver[f.address] = leaver
		}
		return present
	}
	if told && b.failoverOn() && b.mayAnswer(present, f) {
		p.withdrawn[f.address] = present
		return ""
	}
	draining := b.drainReason(present) != ""
	others := slices.DeleteFunc(f.backupsFirst(old.Candidates), func(name string) bool {
		return name == present || draining && b.unhealthyReason(name) != ""
	})
	next = b.bestOwner(others, f.address)
	if next == "" || !b.mayAnswer(present, f) {
		return next
	}
	return b.handOver(f.address, present, next)
}

// bestOwner returns the one of nodes that should answer for address: the one that does already,
// else one that can as far as is known, else any.
func (b *Balancer) bestOwner(nodes []string, address netip.Addr) string {
	able := b.ableNodes(nodes, address)
	return cmp.Or(b.claimantOf(nodes, address), b.leastLoaded(b.onSegment(able, address), address), b.leastLoaded(able, address), b.leastLoaded(nodes, address))
}

// handOver makes the node from, which may be answering for address, give way to another.
// Where the two hear each other neither waits: both get the plan, and from goes on until it
// hears the other one claim. Else from gets it first, and address has no owner until from
// has stopped. Without heartbeats there is nothing to hear, and both get it, as they do
// where the other one answers already.
func (b *Balancer) handOver(address netip.Addr, from, to string) string {
	p := &b.plan
	switch {
	case !b.failoverOn() || b.hasClaimed(to, address):
	case b.canHear(from, to):
		p.handingOver[address] = from
	default:
		p.withdrawn[address] = from
		return ""
	}
	return to
}

// canHear reports whether a session stands between two nodes, as far as is known. A leader that has
// sent no plan yet believes so of all that do not find each other down: the leader before made them
// watch each other if one claims what the other may take.
func (b *Balancer) canHear(x, y string) bool {
	first := len(b.plan.sets) == 0
	sees := func(from, to string) bool {
		return b.isConnected(from) && (first || watchesPeer(b.plan.sets[from].Failover, to)) && !slices.Contains(b.announcer[from].report.Down, to)
	}
	return sees(x, y) && sees(y, x)
}

// stillLeaving reports whether leaver, which hands address over to owner, has yet to hear of it.
func (b *Balancer) stillLeaving(leaver, owner string, address netip.Addr) bool {
	_, known := b.nodes[leaver]
	return known && !b.hasClaimed(owner, address) && (b.hasClaimed(leaver, address) || b.isConnected(leaver) && b.isBehind(leaver))
}

// mayAnswer reports whether node answers for f's address or may be about to, and can be told
// to stop. One that reports that it has no interface for the address will not, whatever its plan.
func (b *Balancer) mayAnswer(node string, f *candidateSet) bool {
	_, known := b.nodes[node]
	return known && b.isConnected(node) &&
		(b.hasClaimed(node, f.address) || b.isBehind(node) && b.canCarry(node, f.address, f.l2.Interface) == "")
}

// isBehind reports whether node has still to report that it carries out its newest plan.
func (b *Balancer) isBehind(node string) bool {
	return b.announcer[node].report.Plan.Compare(b.plan.sets[node].Version) < 0
}

// hasClaimed reports whether node claimed address when it last spoke.
func (b *Balancer) hasClaimed(node string, address netip.Addr) bool {
	_, ok := b.claimOf(node, address)
	return ok
}

// claimOf returns node's claim to address, if it had one when it last spoke.
func (b *Balancer) claimOf(node string, address netip.Addr) (plan.Claim, bool) {
	known, ok := b.announcer[node]
	if !ok {
		return plan.Claim{}, false
	}
	return known.report.Claims.Find(address)
}

// ownerStays reports whether the owner of an address keeps it: while it is eligible, and
// while it cannot be told to stop although it may still be answering. Taking an address
// from a node that is out of reach would make two owners. One that is draining keeps it
// where no other node may take it.
func (b *Balancer) ownerStays(owner string, f *candidateSet) bool {
	n, ok := b.nodes[owner]
	switch {
	case !ok:
		return false
	case !b.isConnected(owner):
		return true
	case b.mayAnswerFor(n, f.address, f.l2) != "":
		return false
	case b.drainReason(owner) == "":
		return true
	case f.canRelieve(owner):
		return false
	}
	b.markDraining(f.address)
	return true
}

// claimantOf returns which of nodes, with a stream, already answers for address, or "": of
// several the one with the highest version of its claim, then the one that spoke last. A
// node that was cut off, and its stream not yet, is known to claim what it claimed before.
func (b *Balancer) claimantOf(nodes []string, address netip.Addr) string {
	best := ""
	var held plan.Claim
	for _, name := range nodes {
		c, ok := b.claimOf(name, address)
		if !ok || !b.isConnected(name) {
			continue
		}
		if best == "" || cmp.Or(c.Version.Compare(held.Version), cmp.Compare(b.announcer[name].spoke, b.announcer[best].spoke)) > 0 {
			best, held = name, c
		}
	}
	return best
}

// leastLoaded returns the first connected node in rendezvous order with a share below the
// bound (consistent hashing with bounded loads, Mirrokni et al. 2016).
func (b *Balancer) leastLoaded(able []string, address netip.Addr) string {
	reachable := slices.DeleteFunc(slices.Clone(able), func(name string) bool { return !b.isConnected(name) })
	willing := slices.DeleteFunc(slices.Clone(reachable), func(name string) bool { return b.unhealthyReason(name) != "" })
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

// rankNodes sorts nodes by their rendezvous hash with address, highest first.
func rankNodes(nodes []string, address netip.Addr) {
	weights := make(map[string]uint64, len(nodes))
	for _, name := range nodes {
		weights[name] = rendezvousWeight(name, address)
	}
	slices.SortFunc(nodes, func(x, y string) int {
		return cmp.Or(cmp.Compare(weights[y], weights[x]), cmp.Compare(x, y))
	})
}

// rendezvousWeight is the rendezvous hash of a node and an address. It must not change between
// versions and processes, or a change of leader would move addresses.
func rendezvousWeight(node string, address netip.Addr) uint64 {
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
