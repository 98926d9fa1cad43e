package cloud

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/reason"
)

// ownership is the node that owns an address that a Service holds.
type ownership struct {
	address netip.Addr
	// service is "namespace/name".
	service, node string
	// since is when this replica learned that the node answers.
	since time.Time
	why   reason.Reason
}

// recordOwnersLocked writes down which node owns each of those addresses now.
func (c *core) recordOwnersLocked(addresses []netip.Addr) {
	moved := false
	for _, address := range addresses {
		node, why := c.lb.Owner(address)
		left := func(from string) reason.Reason { return c.lb.Left(from, address) }
		moved = c.owners.setOwner(address, node, why, left) || moved
	}
	if !moved {
		return
	}
	select {
	case c.moved <- struct{}{}:
	default:
	}
}

// takeMoves returns what moved since it was last called.
func (c *core) takeMoves() []move {
	c.mu.Lock()
	defer c.mu.Unlock()
	moves := c.owners.takeMoves()
	for i := range moves {
		moves[i].services = c.holderKeysLocked(moves[i].address)
	}
	return moves
}

// ownerships returns the owners, sorted by address and Service, how many addresses are held
// by the reason of their announcement, and how many moved so far by why.
func (c *core) ownerships() (out []ownership, held map[reason.Reason]int, moved map[reason.Reason]uint64) {
	c.mu.Lock()
	for address, a := range c.owners.answering {
		if a.between {
			continue
		}
		for _, key := range c.holderKeysLocked(address) {
			out = append(out, ownership{address, key, a.node, c.owners.claimedSince[a.node][address], a.why})
		}
	}
	held, moved = c.lb.Announcements(), maps.Clone(c.owners.moved)
	c.mu.Unlock()
	slices.SortFunc(out, func(x, y ownership) int {
		return cmp.Or(x.address.Compare(y.address), cmp.Compare(x.service, y.service))
	})
	return out, held, moved
}

// holderKeys returns the keys of the Services that hold address.
func (c *core) holderKeys(address netip.Addr) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.holderKeysLocked(address)
}

// holderKeysLocked returns the keys of the Services that hold address.
func (c *core) holderKeysLocked(address netip.Addr) []string {
	var out []string
	for _, uid := range c.lb.HoldersOf(address) {
		if key, ok := c.keys[uid]; ok {
			out = append(out, key)
		}
	}
	return out
}
