package plan

import (
	"cmp"
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"
)

// Item is what an Index holds: something about one address.
type Item[T any] interface {
	// At is the address; Equal reports whether two say the same.
	At() netip.Addr
	Equal(other T) bool
}

// Index holds items sorted by address, each address once. It never changes: With and
// Without return another Index that shares all but a few nodes with it, so that either
// costs the logarithm of its size, and what two have in common costs nothing to compare.
// The zero Index is empty. Two with the same items are equal also to reflect.DeepEqual.
//
// It is a treap (Seidel, Aragon: Randomized Search Trees, 1996) whose priorities are
// hashes of the addresses: which items it holds is all that its shape depends on.
type Index[T Item[T]] struct{ root *node[T] }

type node[T Item[T]] struct {
	item        T
	priority    uint64 // of no descendant is it higher
	size        int
	left, right *node[T]
}

// NewIndex returns an Index of items; of several with one address the last counts.
func NewIndex[T Item[T]](items ...T) Index[T] {
	if !slices.IsSortedFunc(items, compareItems[T]) {
		items = slices.Clone(items)
		slices.SortStableFunc(items, compareItems[T])
	}
	// The right spine of the tree so far, root first: an item goes below the last one of
	// higher priority, and what was there becomes its left part.
	var spine []*node[T]
	for i, item := range items {
		if i+1 < len(items) && items[i+1].At() == item.At() {
			continue
		}
		n := &node[T]{item: item, priority: priorityOf(item.At())}
		for len(spine) > 0 && spine[len(spine)-1].isBelow(n) {
			n.left = spine[len(spine)-1].recount()
			spine = spine[:len(spine)-1]
		}
		if len(spine) > 0 {
			spine[len(spine)-1].right = n
		}
		spine = append(spine, n)
	}
	for _, n := range slices.Backward(spine) {
		n.recount()
	}
	if len(spine) == 0 {
		return Index[T]{}
	}
	return Index[T]{spine[0]}
}

func compareItems[T Item[T]](a, b T) int { return a.At().Compare(b.At()) }

// priorityOf spreads addresses evenly (splitmix64).
func priorityOf(address netip.Addr) uint64 {
	b := address.As16()
	x := binary.BigEndian.Uint64(b[:8])*0x9e3779b97f4a7c15 ^ binary.BigEndian.Uint64(b[8:])
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// isBelow reports whether n belongs below m.
func (n *node[T]) isBelow(m *node[T]) bool {
	return cmp.Or(cmp.Compare(n.priority, m.priority), compareItems(m.item, n.item)) < 0
}

// recount brings the size of n up to date.
func (n *node[T]) recount() *node[T] {
	n.size = 1 + n.left.len() + n.right.len()
	return n
}

func (n *node[T]) len() int {
	if n == nil {
		return 0
	}
	return n.size
}

// withParts returns a copy of n over other parts.
func (n *node[T]) withParts(left, right *node[T]) *node[T] {
	return (&node[T]{item: n.item, priority: n.priority, left: left, right: right}).recount()
}

// Len returns the number of items.
func (x Index[T]) Len() int { return x.root.len() }

// Find returns the item of address.
func (x Index[T]) Find(address netip.Addr) (T, bool) {
	for n := x.root; n != nil; {
		switch c := address.Compare(n.item.At()); {
		case c == 0:
			return n.item, true
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	var none T
	return none, false
}

// Has reports whether there is an item of address.
func (x Index[T]) Has(address netip.Addr) bool {
	_, ok := x.Find(address)
	return ok
}

// From returns the items from the first that is not below address on, which is all for the
// zero Addr, in order of address.
func (x Index[T]) From(address netip.Addr) iter.Seq[T] {
	return func(yield func(T) bool) { x.root.walkFrom(address, yield) }
}

// All returns all items in order of address.
func (x Index[T]) All() iter.Seq[T] { return x.From(netip.Addr{}) }

func (n *node[T]) walkFrom(address netip.Addr, yield func(T) bool) bool {
	if n == nil {
		return true
	}
	if n.item.At().Less(address) {
		return n.right.walkFrom(address, yield)
	}
	return n.left.walkFrom(address, yield) && yield(n.item) && n.right.walkFrom(address, yield)
}

// Nth returns the item before which there are i others; there are more than i.
func (x Index[T]) Nth(i int) T {
	n := x.root
	for {
		switch before := n.left.len(); {
		case i == before:
			return n.item
		case i < before:
			n = n.left
		default:
			n, i = n.right, i-before-1
		}
	}
}

// With returns an Index that also has item, in place of what x has of its address.
func (x Index[T]) With(item T) Index[T] {
	if held, ok := x.Find(item.At()); ok && held.Equal(item) {
		return x
	}
	return Index[T]{x.root.withNode(&node[T]{item: item, priority: priorityOf(item.At())})}
}

func (n *node[T]) withNode(added *node[T]) *node[T] {
	if n == nil {
		return added.recount()
	}
	address := added.item.At()
	if n.item.At() == address {
		return added.withParts(n.left, n.right)
	}
	if n.isBelow(added) {
		return added.withParts(n.splitAt(address))
	}
	if address.Less(n.item.At()) {
		return n.withParts(n.left.withNode(added), n.right)
	}
	return n.withParts(n.left, n.right.withNode(added))
}

// splitAt returns the parts of n before and after address, which n does not have.
func (n *node[T]) splitAt(address netip.Addr) (before, after *node[T]) {
	if n == nil {
		return nil, nil
	}
	if address.Less(n.item.At()) {
		before, after = n.left.splitAt(address)
		return before, n.withParts(after, n.right)
	}
	before, after = n.right.splitAt(address)
	return n.withParts(n.left, before), after
}

// Without returns an Index that has no item of address.
func (x Index[T]) Without(address netip.Addr) Index[T] {
	if !x.Has(address) {
		return x
	}
	return Index[T]{x.root.withoutAddress(address)}
}

func (n *node[T]) withoutAddress(address netip.Addr) *node[T] {
	switch c := address.Compare(n.item.At()); {
	case c == 0:
		return joinNodes(n.left, n.right)
	case c < 0:
		return n.withParts(n.left.withoutAddress(address), n.right)
	default:
		return n.withParts(n.left, n.right.withoutAddress(address))
	}
}

// joinNodes returns all of two parts, of which one lies before the other.
func joinNodes[T Item[T]](before, after *node[T]) *node[T] {
	switch {
	case before == nil:
		return after
	case after == nil:
		return before
	case before.isBelow(after):
		return after.withParts(joinNodes(before, after.left), after.right)
	default:
		return before.withParts(before.left, joinNodes(before.right, after))
	}
}

// Delta returns what leads from before to after, in order of address: each address whose
// item differs, and its item in after, which is nil where there is none.
func Delta[T Item[T]](before, after Index[T]) iter.Seq2[netip.Addr, *T] {
	return func(yield func(netip.Addr, *T) bool) { walkDelta(before.root, after.root, yield) }
}

// Equal reports whether two indexes have the same items.
func (x Index[T]) Equal(y Index[T]) bool {
	for range Delta(x, y) {
		return false
	}
	return true
}

func walkDelta[T Item[T]](before, after *node[T], yield func(netip.Addr, *T) bool) bool {
	switch {
	case before == after:
		return true
	case before == nil:
		return after.walkFrom(netip.Addr{}, func(item T) bool { return yield(item.At(), &item) })
	case after == nil:
		return before.walkFrom(netip.Addr{}, func(item T) bool { return yield(item.At(), nil) })
	case before.item.At() == after.item.At():
		return walkDelta(before.left, after.left, yield) &&
			(before.item.Equal(after.item) || yield(after.item.At(), &after.item)) &&
			walkDelta(before.right, after.right, yield)
	case after.isBelow(before):
		// What is at the top of one and not of the other is not in the other at all.
		left, right := after.splitAt(before.item.At())
		return walkDelta(before.left, left, yield) && yield(before.item.At(), nil) && walkDelta(before.right, right, yield)
	default:
		left, right := before.splitAt(after.item.At())
		return walkDelta(left, after.left, yield) && yield(after.item.At(), &after.item) && walkDelta(right, after.right, yield)
	}
}
