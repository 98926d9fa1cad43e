package config

import (
	"cmp"
	"slices"

	"baremetal.cloud/ccm/pkg/ipam"
)

// entry is a range of addresses as it stands in the file.
type entry struct {
	ipam.Range
	text string
	spot spot
}

// standsBefore reports whether e stands before o in the file.
func (e entry) standsBefore(o entry) bool {
	a, b := e.spot.node(), o.spot.node()
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) < 0
}

// checkOverlaps reports every range that has an address in common with another one, in its own
// pool or in another pool. It sorts by the first address and sweeps once, comparing each
// range with the one before it that reaches furthest.
func (c *checker) checkOverlaps() {
	sorted := slices.Clone(c.entries)
	slices.SortStableFunc(sorted, func(a, b entry) int { return a.First.Compare(b.First) })
	var furthest entry
	for i, e := range sorted {
		if i > 0 && furthest.Overlaps(e.Range) {
			reportOverlap(furthest, e)
		}
		if i == 0 || furthest.Last.Less(e.Last) {
			furthest = e
		}
	}
}

// reportOverlap reports a and b at the later of the two and names the position of the other.
func reportOverlap(a, b entry) {
	if b.standsBefore(a) {
		a, b = b, a
	}
	b.spot.fail("", "%s overlaps %s, which is %s at %s", b.text, a.text, a.spot.path, a.spot.position())
}
