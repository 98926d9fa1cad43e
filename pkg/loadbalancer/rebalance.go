package loadbalancer

import (
	"cmp"
	"iter"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"baremetal.cloud/ccm/pkg/ipam"
)

// rebalancing is what evening out the load goes by.
type rebalancing struct {
	// looked is when it was last looked whether an address should move. A leader begins as
	// if one just had: another one may have moved addresses until now.
	looked time.Time
	// evening reports whether a node had far too much or too little, and that the load has not
	// been even since.
	evening bool
	// to is, by address, the node that the next Plan gives it to.
	to map[netip.Addr]string
	// moved are the addresses that were given to another node to even out the load.
	moved map[netip.Addr]transfer
}

type transfer struct{ from, to string }

func newRebalancing() rebalancing {
	return rebalancing{to: map[netip.Addr]string{}, moved: map[netip.Addr]transfer{}}
}

// Rebalance makes the next Plan move one address to a node with less to do, if the load is
// uneven and Config.MaxMovesPerMinute allows it at now. It returns how long after now to call
// it again; 0 is when something has changed.
//
// It begins where a node answers for more than a tenth above the mean of those that may
// answer for the same addresses, or for less than half of it, and goes on until no move makes
// the load more even. An address moves only between nodes that hear each other, from one that
// answers for it.
func (b *Balancer) Rebalance(now time.Time) time.Duration {
	if b.maxMoves == 0 || !b.failoverOn() {
		return 0
	}
	r := &b.rebalancing
	pause := (time.Minute + time.Duration(b.maxMoves) - 1) / time.Duration(b.maxMoves)
	if r.looked.IsZero() {
		r.looked = now
	}
	if left := pause - now.Sub(r.looked); left > 0 {
		return left
	}
	r.looked = now
	rings := b.equalRings()
	r.evening = slices.ContainsFunc(rings, (*ring).isUneven) || r.evening && slices.ContainsFunc(rings, (*ring).canImprove)
	if !r.evening {
		rings = nil
	}
	for _, c := range rings {
		if address, to, ok := b.nextMove(c); ok {
			r.to[address] = to
			b.plan.markDirty(address)
			return pause
		}
	}
	r.looked = now.Add(max(rest-pause, 0))
	return 0
}

// rest is for how long at least it is not looked again after nothing was found to move: with
// many nodes and addresses looking takes a while.
const rest = 5 * time.Second

// ring are nodes that may answer for the same addresses, and those addresses.
type ring struct {
	// nodes are sorted by what they answer for, most first, and load is how much that is,
	// of all circles.
	nodes []string
	load  map[string]int
	mean  float64
	// addresses are those of the circle, by owner.
	addresses map[string][]netip.Addr
}

// isUneven reports whether a node has far too much or too little.
func (c *ring) isUneven() bool {
	first, last := c.load[c.nodes[0]], c.load[c.nodes[len(c.nodes)-1]]
	bound := int(max(math.Ceil(c.mean), math.Floor(headroom*c.mean)))
	return c.canImprove() && (first > bound || float64(last) < c.mean/2)
}

// canImprove reports whether a move would make the load more even.
func (c *ring) canImprove() bool {
	return c.moveImproves(c.nodes[0], c.nodes[len(c.nodes)-1])
}

// moveImproves reports whether a move from one node to another would make the load more even.
func (c *ring) moveImproves(from, to string) bool {
	return float64(c.load[from]) > c.mean && float64(c.load[to]) < c.mean && c.load[to]+1 < c.load[from]
}

// equalRings returns the circles with more than one node, in a fixed order.
func (b *Balancer) equalRings() []*ring {
	byKey := map[string]*ring{}
	var keys []string
	for address, list := range b.plan.lists {
		key := b.ringKey(address)
		c := byKey[key]
		if c == nil {
			c = b.ringOf(address)
			byKey[key] = c
			keys = append(keys, key)
		}
		c.addresses[list.Candidates[0]] = append(c.addresses[list.Candidates[0]], address)
	}
	slices.Sort(keys)
	var out []*ring
	for _, key := range keys {
		if c := byKey[key]; len(c.nodes) > 1 {
			out = append(out, c)
		}
	}
	return out
}

// ringKey is the same text for addresses that the same nodes may answer for, as a rule: what
// the interfaces can carry is asked for each address to move.
func (b *Balancer) ringKey(address netip.Addr) string {
	f := ipam.FamilyOf(address)
	parts := []string{b.addresses.PoolOf(address), f.String()}
	for _, s := range b.holdersOf(address) {
		if s.Sharing.Local {
			parts = append(parts, strings.Join(b.endpoints[s.Key()].ofFamily(f).Nodes, " "))
		}
	}
	return strings.Join(parts, "\x00")
}

// ringOf returns the nodes that may answer for address, and no addresses.
func (b *Balancer) ringOf(address netip.Addr) *ring {
	c := &ring{load: map[string]int{}, addresses: map[string][]netip.Addr{}}
	l2 := b.l2[b.addresses.PoolOf(address)]
	total := 0
	for name := range b.reachableNodes(address) {
		n, known := b.nodes[name]
		if known && b.isConnected(name) && b.mayAnswerFor(n, address, l2) == "" {
			c.nodes = append(c.nodes, name)
			c.load[name] = b.plan.owned[name]
			total += c.load[name]
		}
	}
	c.mean = float64(total) / float64(max(len(c.nodes), 1))
	slices.SortFunc(c.nodes, func(x, y string) int { return cmp.Or(cmp.Compare(c.load[y], c.load[x]), cmp.Compare(x, y)) })
	return c
}

// reachableNodes yields the nodes at which a Service that holds address can be reached: with
// externalTrafficPolicy Local those with an endpoint, which are few of many.
func (b *Balancer) reachableNodes(address netip.Addr) iter.Seq[string] {
	f, local := ipam.FamilyOf(address), map[string]bool{}
	for _, s := range b.holdersOf(address) {
		if !s.Sharing.Local {
			return maps.Keys(b.nodes)
		}
		for _, name := range b.endpoints[s.Key()].ofFamily(f).Nodes {
			local[name] = true
		}
	}
	return maps.Keys(local)
}

// nextMove returns an address of c that should move and where to: from the node that has most
// to the node that has least, and of those addresses one that its hash sends there.
func (b *Balancer) nextMove(c *ring) (netip.Addr, string, bool) {
	least := c.nodes[len(c.nodes)-1]
	for _, from := range c.nodes {
		if !c.moveImproves(from, least) {
			break
		}
		for _, to := range b.relievingNodes(c, from) {
			if address, ok := b.movableAddress(c.addresses[from], from, to); ok {
				return address, to, true
			}
		}
	}
	return netip.Addr{}, "", false
}

// relievingNodes returns the nodes of c that hear from, and that a move to would make the load
// more even, those with least first.
func (b *Balancer) relievingNodes(c *ring, from string) []string {
	var out []string
	for _, p := range b.plan.sets[from].Failover.Peers {
		if _, member := c.load[p.Node]; member && c.moveImproves(from, p.Node) && b.canHear(from, p.Node) {
			out = append(out, p.Node)
		}
	}
	slices.SortFunc(out, func(x, y string) int { return cmp.Or(cmp.Compare(c.load[x], c.load[y]), cmp.Compare(x, y)) })
	return out
}

// movableAddress returns the address that to comes first for, of those that from can hand over.
func (b *Balancer) movableAddress(addresses []netip.Addr, from, to string) (best netip.Addr, found bool) {
	var most uint64
	for _, address := range addresses {
		if w := rendezvousWeight(to, address); (!found || w > most) && b.canTransfer(address, from, to) {
			best, most, found = address, w, true
		}
	}
	return best, found
}

// canTransfer reports whether from, which answers for address, may hand it over to another.
func (b *Balancer) canTransfer(address netip.Addr, from, to string) bool {
	n, ok := b.nodes[to]
	return ok && b.plan.handingOver[address] == "" && !b.isUnable(to, address) && b.unhealthyReason(to) == "" && b.hasClaimed(from, address) && b.canHear(from, to) &&
		b.mayAnswerFor(n, address, b.l2[b.addresses.PoolOf(address)]) == ""
}

// movesForBalance returns whether address moves to another node from its owner for the sake of
// balance.
func (b *Balancer) movesForBalance(address netip.Addr, owner, to string) bool {
	if to == "" || !b.canTransfer(address, owner, to) {
		return false
	}
	b.rebalancing.moved[address] = transfer{owner, to}
	return true
}

// takeMove returns the node that address should move to, or "", and forgets it.
func (r *rebalancing) takeMove(address netip.Addr) string {
	to := r.to[address]
	delete(r.to, address)
	return to
}

// forgetAddress drops what is known of an address that lost its last holder.
func (r *rebalancing) forgetAddress(address netip.Addr) {
	delete(r.to, address)
	delete(r.moved, address)
}
