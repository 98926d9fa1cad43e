package loadbalancer

import (
	"cmp"
	"hash/fnv"
	"math"
	"net/netip"
	"slices"
)

const (
	// backups is how many nodes stand by for an address beside its owner.
	backups = 2
	// headroom is how far above the mean a node's share may be before new addresses go
	// elsewhere.
	headroom = 1.1
)

// place returns the candidates for address, the owner first: the present owner while
// it may stay, else who already claims the address, else the node that rendezvous
// hashing with bounded load picks; then backups, the first in another zone where there
// is one. It returns nil where nobody may.
func (b *Balancer) place(address netip.Addr, l2 L2, old []string) []string {
	owner := ""
	if len(old) > 0 && b.stays(old[0], address, l2) {
		owner = old[0]
	}
	var able []string
	for name, n := range b.nodes {
		if name != owner && b.eligible(n, address, l2) == "" {
			able = append(able, name)
		}
	}
	rank(able, address)
	if owner == "" && len(old) == 0 {
		owner = b.claimant(able, address)
	}
	if owner == "" {
		owner = b.elect(able, address)
	}
	if owner == "" {
		return nil
	}
	able = slices.DeleteFunc(able, func(name string) bool { return name == owner })
	return append([]string{owner}, b.standby(able, old, b.nodes[owner].Zone)...)
}

// stays reports whether the owner of an address keeps it: while it is eligible, and
// while it cannot be told to stop although it may still be answering. Taking an address
// from a node that is out of reach would make two answerers.
func (b *Balancer) stays(owner string, address netip.Addr, l2 L2) bool {
	n, ok := b.nodes[owner]
	if !ok {
		return false
	}
	return b.eligible(n, address, l2) == "" || !b.connected(owner)
}

// claimant returns the node that already answers for address: of several the one whose
// claim has the highest stamp, then the first in order.
func (b *Balancer) claimant(able []string, address netip.Addr) string {
	best := ""
	for _, name := range able {
		if !b.connected(name) {
			continue
		}
		c, ok := findClaim(b.announcer[name].report, address)
		if !ok {
			continue
		}
		if best == "" {
			best = name
			continue
		}
		if held, _ := findClaim(b.announcer[best].report, address); c.Stamp.Compare(held.Stamp) > 0 {
			best = name
		}
	}
	return best
}

// elect returns the first connected node in rendezvous order whose share is below the
// bound (consistent hashing with bounded loads, Mirrokni et al. 2016).
func (b *Balancer) elect(able []string, address netip.Addr) string {
	reachable := slices.DeleteFunc(slices.Clone(able), func(name string) bool { return !b.connected(name) })
	if len(reachable) == 0 {
		return ""
	}
	total := 1
	for _, name := range reachable {
		total += b.plan.owned[name]
	}
	bound := int(math.Ceil(headroom * float64(total) / float64(len(reachable))))
	for _, name := range reachable {
		if b.plan.owned[name] < bound {
			return name
		}
	}
	return reachable[0]
}

// standby picks the backups from able: those that were backups before stay, a node of
// another zone comes first.
func (b *Balancer) standby(able, old []string, zone string) []string {
	var out []string
	if len(old) > 1 {
		for _, name := range old[1:] {
			if slices.Contains(able, name) {
				out = append(out, name)
			}
		}
	}
	for _, name := range able {
		if b.connected(name) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	out = out[:min(len(out), backups)]
	elsewhere := func(name string) bool { return zone != "" && b.nodes[name].Zone != "" && b.nodes[name].Zone != zone }
	if slices.ContainsFunc(out, elsewhere) {
		slices.SortStableFunc(out, func(x, y string) int { return cmp.Compare(btoi(elsewhere(y)), btoi(elsewhere(x))) })
		return out
	}
	for _, name := range able {
		if elsewhere(name) && b.connected(name) {
			return append([]string{name}, out[:min(len(out), backups-1)]...)
		}
	}
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
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
