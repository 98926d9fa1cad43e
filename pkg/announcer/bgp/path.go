package bgp

import (
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// path is one prefix with its attributes as one peer must hear it.
type path struct {
	prefix netip.Prefix
	attributes
}

// attributes are what a path says of its prefix.
type attributes struct {
	nextHop     netip.Addr
	communities []plan.Community
	large       []plan.LargeCommunity
	localPref   plan.Metric
	med         plan.Metric
	// prepend is how many times more than once the local AS is in the AS_PATH.
	prepend uint8
}

func (a attributes) equalAttributes(b attributes) bool {
	return a.nextHop == b.nextHop && a.localPref == b.localPref && a.med == b.med && a.prepend == b.prepend &&
		slices.Equal(a.communities, b.communities) && slices.Equal(a.large, b.large)
}

// pathTo returns what peer must hear of route, or false where it is nothing.
func pathTo(peer Peer, route plan.Route, advertisements map[string]plan.Advertisement) (path, bool) {
	out := path{prefix: route.Prefix, attributes: attributes{nextHop: peer.nextHop(route.Prefix)}}
	if !out.nextHop.IsValid() || !peer.carriesPrefix(route.Prefix) {
		return path{}, false
	}
	first := true
	for _, name := range route.Advertisements {
		a, ok := advertisements[name]
		if !ok || !slices.Contains(a.Peers, peer.Name) {
			continue
		}
		if first {
			first = false
			out.med = a.MED
			if peer.Internal() { // RFC 4271 sections 5.1.5 and 5.1.2
				out.localPref = a.LocalPref
			} else {
				out.prepend = a.Prepend
			}
		}
		out.communities = append(out.communities, a.Communities...)
		out.large = append(out.large, a.LargeCommunities...)
	}
	slices.Sort(out.communities)
	out.communities = slices.Compact(out.communities)
	slices.SortFunc(out.large, plan.LargeCommunity.Compare)
	out.large = slices.Compact(out.large)
	return out, !first
}

// byName indexes advertisements.
func byName(advertisements []plan.Advertisement) map[string]plan.Advertisement {
	index := make(map[string]plan.Advertisement, len(advertisements))
	for _, a := range advertisements {
		index[a.Name] = a
	}
	return index
}
