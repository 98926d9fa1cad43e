package control

import (
	"cmp"
	"fmt"
	"net/netip"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// merging is how a difference is applied to a list that is sorted by a key.
type merging[T any, K comparable] struct {
	key     func(T) K
	compare func(a, b K) int
	// twice and unknown are the formats, of a key, of what is wrong with a difference that
	// both has and withdraws an entry, and with one that withdraws an entry not held.
	twice, unknown string
}

var (
	mergeAnnouncements = merging[announcement.Announcement, netip.Addr]{
		func(a announcement.Announcement) netip.Addr { return a.Address }, netip.Addr.Compare,
		"plan: %s is both announced and withdrawn", "plan: %s is withdrawn but not held: %w",
	}.apply
	mergePeers = merging[announcement.Peer, string]{
		func(p announcement.Peer) string { return p.Node }, cmp.Compare[string],
		"plan: peer %q is both there and withdrawn", "plan: peer %q is withdrawn but not held: %w",
	}.apply
	mergeClaims = merging[announcement.Claim, netip.Addr]{
		func(c announcement.Claim) netip.Addr { return c.Address }, netip.Addr.Compare,
		"report: %s is both claimed and ended", "report: the claim of %s ended but was not held: %w",
	}.apply
)

// apply returns have without those withdrawn, with changed replacing or added. All are
// sorted, and so is the result.
func (m merging[T, K]) apply(have, changed []T, withdrawn []K) ([]T, error) {
	merged := make([]T, 0, len(have)+len(changed))
	for _, old := range have {
		key := m.key(old)
		for len(changed) > 0 && m.compare(m.key(changed[0]), key) < 0 {
			merged, changed = append(merged, changed[0]), changed[1:]
		}
		replaced := len(changed) > 0 && m.key(changed[0]) == key
		if len(withdrawn) > 0 && withdrawn[0] == key {
			if replaced {
				return nil, fmt.Errorf(m.twice, key)
			}
			withdrawn = withdrawn[1:]
			continue
		}
		if replaced {
			old, changed = changed[0], changed[1:]
		}
		merged = append(merged, old)
	}
	if len(withdrawn) > 0 {
		return nil, fmt.Errorf(m.unknown, withdrawn[0], errDoesNotFit)
	}
	return append(merged, changed...), nil
}
