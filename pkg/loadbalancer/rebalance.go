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
	// evening says that a node had far too much or too little, and that the load has not
	// been even since.
	evening bool
	// to are addresses that the next Plan is to give to that node.
	to map[netip.Addr]string
	// moved are the addresses that were given to another node to even out the load.
	moved map[netip.Addr]transfer
}

type transfer struct{ from, to string }

func newRebalancing() rebalancing {
	return rebalancing{to: map[netip.Addr]string{}, moved: map[netip.Addr]transfer{}}
}

// Rebalance has the next Plan move one address to a node with less to do, if the load is
// uneven and Config.MaxMovesPerMinute allows it at now. It returns how long after now to call
// it again; 0 is when something has changed.
//
// It begins where a node answers for more than a tenth above the mean of those that may
// answer for the same addresses, or for less than half of it, and goes on until no move makes
// the load more even. An address moves only between nodes that hear each other, from one that
// answers for it.
func (b *Balancer) Rebalance(now time.Time) time.Duration {
	if b.maxMoves == 0 || !b.watching() {
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
	circles := b.equals()
	r.evening = slices.ContainsFunc(circles, (*circle).uneven) || r.evening && slices.ContainsFunc(circles, (*circle).improvable)
	if !r.evening {
		circles = nil
	}
	for _, c := range circles {
		if address, to, ok := b.relief(c); ok {
			r.to[address] = to
			b.plan.touch(address)
			return pause
		}
	}
	r.looked = now.Add(max(rest-pause, 0))
	return 0
}

// rest is for how long at least it is not looked again after nothing was found to move: with
// many nodes and addresses looking takes a while.
const rest = 5 * time.Second

// circle are nodes that may answer for the same addresses, and those addresses.
type circle struct {
	// nodes are sorted by what they answer for, most first, and load is how much that is,
	// of all circles.
	nodes []string
	load  map[string]int
	mean  float64
	// addresses are those of the circle, by owner.
	addresses map[string][]netip.Addr
}

// uneven reports whether a node has far too much or too little.
func (c *circle) uneven() bool {
	first, last := c.load[c.nodes[0]], c.load[c.nodes[len(c.nodes)-1]]
	bound := int(max(math.Ceil(c.mean), math.Floor(headroom*c.mean)))
	return c.improvable() && (first > bound || float64(last) < c.mean/2)
}

// improvable reports whether a move would make the load more even.
func (c *circle) improvable() bool {
	return c.improves(c.nodes[0], c.nodes[len(c.nodes)-1])
}

// improves reports whether a move from one node to another would make the load more even.
func (c *circle) improves(from, to string) bool {
	return float64(c.load[from]) > c.mean && float64(c.load[to]) < c.mean && c.load[to]+1 < c.load[from]
}

// equals returns the circles with more than one node, in a fixed order.
func (b *Balancer) equals() []*circle {
	byKey := map[string]*circle{}
	var keys []string
	for address, list := range b.plan.lists {
		key := b.pooled(address)
		c := byKey[key]
		if c == nil {
			c = b.circle(address)
			byKey[key] = c
			keys = append(keys, key)
		}
		c.addresses[list.Candidates[0]] = append(c.addresses[list.Candidates[0]], address)
	}
	slices.Sort(keys)
	var out []*circle
	for _, key := range keys {
		if c := byKey[key]; len(c.nodes) > 1 {
			out = append(out, c)
		}
	}
	return out
}

// pooled is the same text for addresses that the same nodes may answer for, as a rule: what
// the interfaces can carry is asked for each address that is to move.
func (b *Balancer) pooled(address netip.Addr) string {
	f := ipam.FamilyOf(address)
	parts := []string{b.addresses.PoolOf(address), f.String()}
	for _, s := range b.holdersOf(address) {
		if s.Sharing.Local {
			parts = append(parts, strings.Join(b.endpoints[s.Key()].of(f).Nodes, " "))
		}
	}
	return strings.Join(parts, "\x00")
}

// circle returns the nodes that may answer for address, and no addresses.
func (b *Balancer) circle(address netip.Addr) *circle {
	c := &circle{load: map[string]int{}, addresses: map[string][]netip.Addr{}}
	l2 := b.l2[b.addresses.PoolOf(address)]
	total := 0
	for name := range b.reached(address) {
		n, known := b.nodes[name]
		if known && b.connected(name) && b.eligible(n, address, l2) == "" {
			c.nodes = append(c.nodes, name)
			c.load[name] = b.plan.owned[name]
			total += c.load[name]
		}
	}
	c.mean = float64(total) / float64(max(len(c.nodes), 1))
	slices.SortFunc(c.nodes, func(x, y string) int { return cmp.Or(cmp.Compare(c.load[y], c.load[x]), cmp.Compare(x, y)) })
	return c
}

// reached yields the nodes at which a Service that holds address can be reached: with
// externalTrafficPolicy Local those with an endpoint, which are few of many.
func (b *Balancer) reached(address netip.Addr) iter.Seq[string] {
	f, local := ipam.FamilyOf(address), map[string]bool{}
	for _, s := range b.holdersOf(address) {
		if !s.Sharing.Local {
			return maps.Keys(b.nodes)
		}
		for _, name := range b.endpoints[s.Key()].of(f).Nodes {
			local[name] = true
		}
	}
	return maps.Keys(local)
}

// relief returns an address of c that should move and where to: from who has most to who has
// least, and of those addresses one that its hash sends there.
func (b *Balancer) relief(c *circle) (netip.Addr, string, bool) {
	least := c.nodes[len(c.nodes)-1]
	for _, from := range c.nodes {
		if !c.improves(from, least) {
			break
		}
		for _, to := range b.relievers(c, from) {
			if address, ok := b.movable(c.addresses[from], from, to); ok {
				return address, to, true
			}
		}
	}
	return netip.Addr{}, "", false
}

// relievers returns the nodes of c that hear from, and that a move to would make the load
// more even, those with least first.
func (b *Balancer) relievers(c *circle, from string) []string {
	var out []string
	for _, p := range b.plan.sets[from].Sight.Peers {
		if _, member := c.load[p.Node]; member && c.improves(from, p.Node) && b.hear(from, p.Node) {
			out = append(out, p.Node)
		}
	}
	slices.SortFunc(out, func(x, y string) int { return cmp.Or(cmp.Compare(c.load[x], c.load[y]), cmp.Compare(x, y)) })
	return out
}

// movable returns the address that to comes first for, of those that from can hand over.
func (b *Balancer) movable(addresses []netip.Addr, from, to string) (best netip.Addr, found bool) {
	var most uint64
	for _, address := range addresses {
		if w := weight(to, address); (!found || w > most) && b.transferable(address, from, to) {
			best, most, found = address, w, true
		}
	}
	return best, found
}

// transferable reports whether from, which answers for address, may hand it over to another.
func (b *Balancer) transferable(address netip.Addr, from, to string) bool {
	n, ok := b.nodes[to]
	return ok && b.plan.leaving[address] == "" && !b.unable(to, address) && b.unhealthy(to) == "" && b.claims(from, address) && b.hear(from, to) &&
		b.eligible(n, address, b.l2[b.addresses.PoolOf(address)]) == ""
}

// relieve returns whether address moves to another node from its owner for the sake of
// balance.
func (b *Balancer) relieve(address netip.Addr, owner, to string) bool {
	if to == "" || !b.transferable(address, owner, to) {
		return false
	}
	b.rebalancing.moved[address] = transfer{owner, to}
	return true
}

// take returns the node that address is to move to, or "", and forgets it.
func (r *rebalancing) take(address netip.Addr) string {
	to := r.to[address]
	delete(r.to, address)
	return to
}

// forget drops what is known of an address that nobody holds any more.
func (r *rebalancing) forget(address netip.Addr) {
	delete(r.to, address)
	delete(r.moved, address)
}
