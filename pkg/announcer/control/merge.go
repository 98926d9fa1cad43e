package control

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// merging says what is wrong with a difference to an index: each is a format, of an
// address. Twice is for one that is both changed and withdrawn, unknown for one that is
// withdrawn but not held.
type merging struct{ twice, unknown string }

var (
	planMerging   = merging{"plan: %s is both announced and withdrawn", "plan: %s is withdrawn but not held: %w"}
	reportMerging = merging{"report: %s is both claimed and ended", "report: the claim of %s ended but was not held: %w"}
)

// mergeIndex returns have without those withdrawn, with changed replacing or added.
func mergeIndex[T plan.Item[T]](m merging, have plan.Index[T], changed []T, withdrawn []netip.Addr) (plan.Index[T], error) {
	for _, address := range withdrawn {
		if !have.Has(address) {
			return have, fmt.Errorf(m.unknown, address, errDoesNotFit)
		}
		have = have.Without(address)
	}
	for _, item := range changed {
		if _, both := slices.BinarySearchFunc(withdrawn, item.At(), netip.Addr.Compare); both {
			return have, fmt.Errorf(m.twice, item.At())
		}
		have = have.With(item)
	}
	return have, nil
}

// mergePeers returns have without those withdrawn, with changed replacing or added. All are
// sorted by name, and so is the result.
func mergePeers(have, changed []plan.Peer, withdrawn []string) ([]plan.Peer, error) {
	if len(changed)+len(withdrawn) == 0 {
		return have, nil
	}
	merged := slices.Clone(have)
	at := func(name string) (int, bool) {
		return slices.BinarySearchFunc(merged, name, func(p plan.Peer, name string) int { return strings.Compare(p.Node, name) })
	}
	for _, name := range withdrawn {
		i, held := at(name)
		if !held {
			return nil, fmt.Errorf("plan: peer %q is withdrawn but not held: %w", name, errDoesNotFit)
		}
		merged = slices.Delete(merged, i, i+1)
	}
	for _, p := range changed {
		if _, both := slices.BinarySearch(withdrawn, p.Node); both {
			return nil, fmt.Errorf("plan: peer %q is both there and withdrawn", p.Node)
		}
		i, held := at(p.Node)
		if held {
			merged[i] = p
		} else {
			merged = slices.Insert(merged, i, p)
		}
	}
	return merged, nil
}
