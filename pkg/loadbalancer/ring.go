package loadbalancer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

const (
	// maxSessions is how many others a node watches at most.
	maxSessions = 64
	// ringSessions is how many of them stand before a list needs them, where a node may
	// share lists with more than maxSessions others.
	ringSessions = 32
)

// limits are maxSessions and ringSessions, or less where a test wants few nodes to be many.
type limits struct{ most, ring int }

// ringsOf returns, for each node selector of the configuration, the nodes that it picks
// for announcing, in the order of their hash. Each selector makes a circle of its own, so
// that ten nodes of a thousand that a pool is limited to are neighbours. A node that comes
// or goes changes only the neighbourhoods around its place. One that is being deleted is in none,
// unless it is also.
func (b *Balancer) ringsOf(also string) [][]string {
	all := make([]string, 0, len(b.nodes))
	hashes := make(map[string]uint64, len(b.nodes))
	for name, n := range b.nodes {
		if !n.Excluded && (!n.Deleting || name == also) {
			all = append(all, name)
			hashes[name] = rendezvousWeight(name, netip.Addr{})
		}
	}
	slices.SortFunc(all, func(x, y string) int { return cmp.Or(cmp.Compare(hashes[x], hashes[y]), cmp.Compare(x, y)) })
	selectors := map[string]L2{}
	for _, l2 := range b.l2 {
		if l2.NodeSelector == nil {
			selectors[""] = l2
			continue
		}
		selectors[l2.NodeSelector.String()] = l2
	}
	out := make([][]string, 0, len(selectors))
	for _, text := range slices.Sorted(maps.Keys(selectors)) {
		l2 := selectors[text]
		out = append(out, slices.DeleteFunc(slices.Clone(all), func(name string) bool {
			return l2.NodeSelector != nil && !l2.NodeSelector.Matches(b.nodes[name].Labels)
		}))
	}
	return out
}

// ringNeighbours returns, by node and sorted, the others that it shares a circle with and is
// near enough to: the same for both ends, and never more than the limit. It depends on
// nothing that happened before, so every leader comes to the same.
func ringNeighbours(rings [][]string, limit limits) map[string][]string {
	near := ringReaches(rings, limit)
	out := map[string][]string{}
	for c, ring := range rings {
		for i, x := range ring {
			for d := 1; d <= min(near[c][x], len(ring)/2); d++ {
				if y := ring[(i+d)%len(ring)]; d <= near[c][y] {
					out[x], out[y] = append(out[x], y), append(out[y], x)
				}
			}
		}
	}
	for name, list := range out {
		slices.Sort(list)
		out[name] = slices.Compact(list)
	}
	return out
}

// ringReaches says for each circle how far, in places, each of its nodes may see.
func ringReaches(rings [][]string, limit limits) []map[string]int {
	out := make([]map[string]int, len(rings))
	member := map[string][]int{}
	for c, ring := range rings {
		out[c] = make(map[string]int, len(ring))
		for _, name := range ring {
			member[name] = append(member[name], c)
		}
	}
	for name, mine := range member {
		slices.SortStableFunc(mine, func(x, y int) int { return cmp.Compare(len(rings[x]), len(rings[y])) })
		left := limit.ring
		if others := countOthers(rings, mine, limit.most); others <= limit.most {
			left = others * len(mine) // enough for all of each
		}
		for i, c := range mine {
			// The smaller circles first: what they do not need is left for the others.
			whole, share := len(rings[c])-1, left/(len(mine)-i)
			if whole <= share {
				out[c][name] = whole
				left -= whole
				continue
			}
			out[c][name] = share / 2 // to either side
			left -= share
		}
	}
	return out
}

// countOthers counts the nodes that are in the same circles as a node of all of them, up to
// where it no longer matters.
func countOthers(rings [][]string, mine []int, most int) int {
	seen := map[string]bool{}
	for _, c := range mine {
		if len(rings[c]) > most+1 {
			return len(rings[c])
		}
		for _, name := range rings[c] {
			seen[name] = true
		}
	}
	return len(seen) - 1
}
