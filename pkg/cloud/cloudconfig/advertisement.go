package cloudconfig

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"gopkg.in/yaml.v3"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/ipam"
)

// maxPrepend bounds how often the local AS is repeated: more than some are cut or refused on
// the way.
const maxPrepend = 10

// Advertisement says how the addresses of a pool are announced by BGP.
type Advertisement struct {
	// Advertisement names peers that are in BGP.Peers, all of them where the file names none.
	announcement.Advertisement
	// NodeSelector picks the nodes by their labels; nil picks all.
	NodeSelector ipam.Selector
	// AggregationLength and AggregationLengthV6 are the prefix lengths that addresses are
	// announced with. Each such prefix lies within the pool.
	AggregationLength, AggregationLengthV6 int
}

// length returns the prefix length for addresses like a.
func (a Advertisement) length(address netip.Addr) int {
	if address.Is4() {
		return a.AggregationLength
	}
	return a.AggregationLengthV6
}

// advertisements reads how p, whose ranges are known, is announced by BGP.
func (w *walker) advertisements(n *yaml.Node, path string, p Pool) []Advertisement {
	var out []Advertisement
	w.list(n, path, func(v *yaml.Node, at string) {
		name := fmt.Sprintf("%s/%d", p.Name, len(out))
		a := w.advertisement(v, at, name)
		w.aggregates(v, at, a, p)
		if len(w.problems) == 0 {
			w.agree(v, at, a, out, p)
		}
		out = append(out, a)
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		w.fail(n, path, "write [{}] to announce it to all peers, or remove the key", "an empty list announces nothing")
	}
	if len(w.problems) == 0 {
		w.heard(n, path, out, p)
	}
	return out
}

func (w *walker) advertisement(n *yaml.Node, path, name string) Advertisement {
	a := defaultAdvertisement()
	a.Name, a.Peers = name, w.bgp.names()
	keys := map[string]reader{
		"peers":               func(v *yaml.Node, at string) { a.Peers = w.peerNames(v, at) },
		"nodeSelectors":       func(v *yaml.Node, at string) { a.NodeSelector = w.selectors(v, at) },
		"aggregationLength":   func(v *yaml.Node, at string) { a.AggregationLength = w.integer(v, at, 1, 32) },
		"aggregationLengthV6": func(v *yaml.Node, at string) { a.AggregationLengthV6 = w.integer(v, at, 1, 128) },
		"communities": func(v *yaml.Node, at string) {
			c := w.communityList(v, at)
			a.Communities, a.LargeCommunities = c.standard, c.large
		},
		"localPref":     func(v *yaml.Node, at string) { a.LocalPref = w.metric(v, at) },
		"med":           func(v *yaml.Node, at string) { a.MED = w.metric(v, at) },
		"asPathPrepend": func(v *yaml.Node, at string) { a.Prepend = uint8(w.integer(v, at, 0, maxPrepend)) }, //nolint:gosec // bounded
	}
	w.object(n, path, keys)
	slices.Sort(a.Peers)
	if len(a.Peers) == 0 && len(w.problems) == 0 {
		w.fail(n, path, "add bgp.peers", "there are no peers to announce the pool to")
	}
	if a.LocalPref.Set && !slices.ContainsFunc(a.Peers, w.internal) && len(w.problems) == 0 {
		w.warn(lookup(n, "localPref"), path+".localPref", "remove it; med and asPathPrepend say something to external peers", "goes to internal peers only, and there is none among its peers")
	}
	return a
}

// internal says that the peer of that name is of the node's own AS, or may be.
func (w *walker) internal(name string) bool {
	p, ok := w.bgp.peer(name)
	return ok && (p.Internal() || p.Template.peerASN != "")
}

func (w *walker) metric(n *yaml.Node, path string) announcement.Metric {
	return announcement.Metric{Set: true, Value: uint32(w.integer(n, path, 0, math.MaxUint32))} //nolint:gosec // bounded
}

// peerNames reads names of peers, each given once; an empty list is all.
func (w *walker) peerNames(n *yaml.Node, path string) []string {
	var names []string
	w.list(n, path, func(v *yaml.Node, at string) {
		name, ok := w.text(v, at)
		switch _, known := w.bgp.peer(name); {
		case !ok:
		case !known && len(w.bgp.Peers) == 0:
			w.fail(v, at, "add it to bgp.peers", "there is no peer %q", name)
		case !known:
			w.fail(v, at, suggest(name, w.bgp.names()), "there is no peer %q", name)
		case slices.Contains(names, name):
			w.fail(v, at, "remove one of the two", "%q is listed twice", name)
		default:
			names = append(names, name)
		}
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		return w.bgp.names()
	}
	return names
}

// aggregates checks that no prefix that a announces reaches beyond p: what is outside would
// be drawn to the nodes too, and nobody there answers.
func (w *walker) aggregates(n *yaml.Node, path string, a Advertisement, p Pool) {
	for _, r := range p.Ranges {
		for _, edge := range []netip.Addr{r.First, r.Last} {
			bits := a.length(edge)
			if bits == 0 { // not read
				continue
			}
			prefix, _ := edge.Prefix(bits)
			if r.Contains(prefix.Addr()) && r.Contains(lastOf(prefix)) {
				continue
			}
			key := "aggregationLength"
			if edge.Is6() {
				key = "aggregationLengthV6"
			}
			v := lookup(n, key)
			if v == nil {
				v = n
			}
			w.fail(v, join(path, key), "give a longer prefix, or the pool all of it", "%d makes %s of %s, which reaches beyond %s of the pool", bits, prefix, edge, rangeText(r))
			return
		}
	}
}

// lastOf returns the last address of p.
func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

func rangeText(r ipam.Range) string {
	if r.First == r.Last {
		return r.First.String()
	}
	return r.First.String() + "-" + r.Last.String()
}

// agree checks that a says nothing else of a prefix than those before it, to a peer that both
// may reach from a node. Communities add up.
func (w *walker) agree(n *yaml.Node, path string, a Advertisement, before []Advertisement, p Pool) {
	for i, b := range before {
		meet := mayMeet(a.NodeSelector, b.NodeSelector) && slices.ContainsFunc(a.Peers, func(name string) bool { return slices.Contains(b.Peers, name) })
		same := slices.ContainsFunc(p.Ranges, func(r ipam.Range) bool { return a.length(r.First) == b.length(r.First) })
		if !meet || !same {
			continue
		}
		differ := func(key string, differ bool) {
			at := lookup(n, key)
			if at == nil {
				at = n
			}
			if differ {
				w.fail(at, join(path, key), "give both the same, or peers or aggregation lengths of their own", "the pool's advertisement %d announces the same prefixes to the same peers with another %s", i, key)
			}
		}
		differ("localPref", a.LocalPref != b.LocalPref)
		differ("med", a.MED != b.MED)
		differ("asPathPrepend", a.Prepend != b.Prepend)
	}
}

// heard checks that somebody hears of each family of the pool's addresses, or warns where
// they are announced on layer 2 besides.
func (w *walker) heard(n *yaml.Node, path string, all []Advertisement, p Pool) {
	for _, f := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
		has := slices.ContainsFunc(p.Ranges, func(r ipam.Range) bool { return ipam.FamilyOf(r.First) == f })
		told := slices.ContainsFunc(all, func(a Advertisement) bool {
			return slices.ContainsFunc(a.Peers, func(name string) bool {
				peer, _ := w.bgp.peer(name)
				return f == ipam.IPv4 && peer.IPv4 || f == ipam.IPv6 && peer.IPv6 || peer.Template.address != "" && !peer.Template.families
			})
		})
		if !has || told {
			continue
		}
		report := w.fail
		if len(p.L2) > 0 {
			report = w.warn
		}
		report(n, path, "add it to the families of a peer, or announce the pool to another one", "the pool has %s addresses, and none of its peers takes that family", f)
	}
}
