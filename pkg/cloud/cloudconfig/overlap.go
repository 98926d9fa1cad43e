package cloudconfig

import (
	"cmp"
	"slices"

	"gopkg.in/yaml.v3"

	"baremetal.cloud/ccm/pkg/ipam"
)

// entry is a range of addresses as it stands in the file.
type entry struct {
	ipam.Range
	text string
	node *yaml.Node
	path string
}

// before reports whether e stands before o in the file.
func (e entry) before(o entry) bool {
	return cmp.Or(cmp.Compare(e.node.Line, o.node.Line), cmp.Compare(e.node.Column, o.node.Column)) < 0
}

// overlaps reports every range that has an address in common with another one, in its own
// pool or in another pool. It sorts by the first address and sweeps once, comparing each
// range with the one before it that reaches furthest.
func (w *walker) overlaps() {
	sorted := slices.Clone(w.entries)
	slices.SortStableFunc(sorted, func(a, b entry) int { return a.First.Compare(b.First) })
	var furthest entry
	for i, e := range sorted {
		if i > 0 && furthest.Overlaps(e.Range) {
			w.overlap(furthest, e)
		}
		if i == 0 || furthest.Last.Less(e.Last) {
			furthest = e
		}
	}
}

// overlap reports a and b at the later of the two and names the position of the other.
func (w *walker) overlap(a, b entry) {
	if b.before(a) {
		a, b = b, a
	}
	w.fail(b.node, b.path, "", "%s overlaps %s, which is %s at %d:%d", b.text, a.text, a.path, a.node.Line, a.node.Column)
}
