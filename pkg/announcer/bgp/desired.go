package bgp

import (
	"cmp"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Desired is what a node says to routers: its plan, and what the node adds to it.
type Desired struct {
	// Plan is the version of the plan behind it.
	Plan plan.Version
	// Peers are sorted by name.
	Peers []Peer
	// Without are the sessions to the other peers of the plan, with the reason why the node
	// has none; sorted by peer.
	Without []Session
	// Advertisements and Routes are as in plan.BGP.
	Advertisements []plan.Advertisement
	Routes         []plan.Route
	// Withheld are prefixes of the plan that are not in Routes yet; sorted.
	Withheld []netip.Prefix
}

// Peer is a router with what the node itself adds.
type Peer struct {
	// BGPPeer has the router's address, also where the plan leaves that to the node; a
	// link-local one with its zone.
	plan.BGPPeer
	// RouterID replaces that of the plan where it has none.
	RouterID netip.Addr
	// NextHopV4 and NextHopV6 are the node's addresses that lead to it from that router; the
	// zero Addr where it has none of the family. Prefixes of that family are not announced then.
	NextHopV4, NextHopV6 netip.Addr
	// Adjacent reports whether the router is on a network of the node's.
	Adjacent bool
	// Password is that of TCP MD5 signatures, or "".
	Password Secret
}

// Secret prints as nothing.
type Secret string

// String keeps a Secret out of logs.
func (Secret) String() string { return "(secret)" }

// GoString keeps a Secret out of logs.
func (s Secret) GoString() string { return s.String() }

// nextHop returns the next hop for prefixes like p.
func (p Peer) nextHop(prefix netip.Prefix) netip.Addr {
	if p.ExtendedNextHop {
		return p.NextHopV6
	}
	return p.hopLike(prefix.Addr())
}

// hopLike returns the next hop of a's family.
func (p Peer) hopLike(a netip.Addr) netip.Addr {
	if a.Is4() {
		return p.NextHopV4
	}
	return p.NextHopV6
}

// connectedFrom returns p with the node's address of the connection to it as the next hop of its
// family, unless that is one that no third party can send to.
func (p Peer) connectedFrom(local netip.Addr) Peer {
	switch {
	case !local.IsGlobalUnicast():
	case local.Is4():
		p.NextHopV4 = local
	default:
		p.NextHopV6 = local.WithZone("")
	}
	return p
}

// carriesPrefix reports whether prefixes like that are announced to the peer.
func (p Peer) carriesPrefix(prefix netip.Prefix) bool {
	if prefix.Addr().Is4() {
		return p.IPv4
	}
	return p.IPv6
}

// update is what a Speaker tells its process: the first one all, each later one what is new.
type update struct {
	// Seq is repeated in the state that reports it as carried out.
	Seq uint64
	// Config replaces peers and advertisements; nil leaves them.
	Config *config `json:",omitempty"`
	// Routes are new or changed; Withdrawn are there no more.
	Routes    []plan.Route   `json:",omitempty"`
	Withdrawn []netip.Prefix `json:",omitempty"`
	// Broken are peers with sessions that must be ended, because the path to them failed.
	Broken []breakdown `json:",omitempty"`
	// Leave reports whether the process must end as its announcer does.
	Leave bool `json:",omitempty"`
}

type config struct {
	Peers          []Peer
	Advertisements []plan.Advertisement
}

// deltaOf returns the update from have to want.
func deltaOf(have, want Desired) update {
	var u update
	if !slices.Equal(have.Peers, want.Peers) || !slices.EqualFunc(have.Advertisements, want.Advertisements, plan.Advertisement.Equal) {
		u.Config = &config{want.Peers, want.Advertisements}
	}
	changed, gone := plan.RouteDelta(have.Routes, want.Routes)
	u.Routes = changed
	for _, r := range gone {
		u.Withdrawn = append(u.Withdrawn, r.Prefix)
	}
	return u
}

// isEmpty reports whether u changes nothing.
func (u update) isEmpty() bool {
	return u.Config == nil && len(u.Routes)+len(u.Withdrawn)+len(u.Broken) == 0 && !u.Leave
}

// message is what the process tells its Speaker.
type message struct {
	// Seq is that of the newest update that was carried out, and Sessions, sorted by peer, all
	// that there are; both only where Sessions is not nil.
	Seq      uint64
	Sessions []Session `json:",omitzero"`
	// Log is a line of gobgp's.
	Log string `json:",omitempty"`
}

// Session is the state of the session to one peer.
type Session struct {
	plan.BGPSession
	// Routes is how many prefixes the peer was told, since the session is established, and
	// Received how many it announced, each time counted.
	Routes   int
	Received uint64
	// Losses counts how often the session was established and ended.
	Losses uint64
	// BFDFailures counts how often the path to the peer was up and failed.
	BFDFailures uint64
	// held reports whether the process is not told of the peer, for the reason that is given.
	held bool
}

func sortSessions(sessions []Session) {
	slices.SortFunc(sessions, func(a, b Session) int { return cmp.Compare(a.Peer, b.Peer) })
}
