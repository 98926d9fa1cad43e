package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/reason"
)

// BGP is what a node says to routers: to which, what about prefixes, and which prefixes. The zero
// BGP has nothing to say to any router.
type BGP struct {
	// Peers are sorted by name.
	Peers []BGPPeer
	// Advertisements are sorted by name. Each names only peers that are in Peers.
	Advertisements []Advertisement
	// Routes are sorted by prefix, each prefix once.
	Routes []Route
}

// BGPPeer is a router that a node keeps a session to (RFC 4271). The node dials, and never
// uses what the router says about other networks.
type BGPPeer struct {
	// Name is what the cloud-config calls it.
	Name string
	// Address is the router's, without a zone; 0.0.0.0 and :: stand for the node's default
	// gateway of that family.
	Address netip.Addr
	// Port is the router's TCP port.
	Port uint16
	// LocalASN and PeerASN are the autonomous systems of the node and of the router. Where
	// they are the same the session is an internal one (iBGP).
	LocalASN, PeerASN uint32
	// HoldTime is how long either side lives without a word of the other, whole seconds of at
	// least 3; KeepaliveTime is how often this side speaks, and ConnectRetryTime how long it
	// waits between two attempts to connect.
	HoldTime, KeepaliveTime, ConnectRetryTime time.Duration
	// SourceAddress is the node's own address to use; the zero Addr leaves that to its routes.
	SourceAddress netip.Addr
	// Interface is the one to go out by; "" leaves that to the node's routes.
	Interface string
	// RouterID is the node's BGP Identifier, an IPv4 address; the zero Addr has the node
	// choose (RFC 6286).
	RouterID netip.Addr
	// PasswordFile names the file, in a directory that the node's program is given, with the
	// password of TCP MD5 signatures (RFC 2385); "" is none.
	PasswordFile string
	// EBGPMultihop is the TTL of packets to an external router; 0 is 1, a router on the same
	// network.
	EBGPMultihop uint8
	// TTLSecurity is how many hops away the router may be at most, all packets being sent and
	// expected with the highest TTL (RFC 5082); 0 is not asked for.
	TTLSecurity uint8
	// GracefulRestart is how long the router is asked to keep the routes while the node's
	// program restarts, in whole seconds (RFC 4724); 0 asks for nothing.
	GracefulRestart time.Duration
	// IPv4 and IPv6 say of which families prefixes are announced to it.
	IPv4, IPv6 bool
	// BFD is how the path to it is watched; with the zero BFD it is not watched.
	BFD BFD
	// ExtendedNextHop reports whether IPv4 prefixes have the node's IPv6 address as their next hop
	// (RFC 8950).
	ExtendedNextHop bool
}

// BFD is one end of a BFD session (RFC 5880 section 6.8.1).
type BFD struct {
	// TransmitInterval and ReceiveInterval are the least time between two packets that the
	// node would like to send, and that it is able to receive, whole milliseconds.
	TransmitInterval, ReceiveInterval time.Duration
	// DetectMultiplier is how many packets in a row the router must miss to call the node
	// gone; never 0 where the path is watched.
	DetectMultiplier uint8
	// MinimumTTL is the least TTL or hop limit that a packet over several hops may arrive with;
	// 0 allows all.
	MinimumTTL uint8
}

// Watches reports whether there is a session.
func (b BFD) Watches() bool { return b != BFD{} }

// SeveralHops reports whether routers may be between the node and the peer. They may be on the way to
// an internal one, too.
func (p BGPPeer) SeveralHops() bool { return p.EBGPMultihop > 0 || p.TTLSecurity > 1 }

// Gateway reports whether the router is whichever the node's default gateway is.
func (p BGPPeer) Gateway() bool { return p.Address.IsUnspecified() }

// Internal reports whether the session is an internal one.
func (p BGPPeer) Internal() bool { return p.LocalASN == p.PeerASN }

// Advertisement is how prefixes are announced, and to which routers.
type Advertisement struct {
	// Name is unique in a plan.
	Name string
	// Peers are the names of those that hear it, sorted.
	Peers []string
	// Communities (RFC 1997) and LargeCommunities (RFC 8092) are sorted.
	Communities      []Community
	LargeCommunities []LargeCommunity
	// LocalPref goes to internal peers only, which take 100 for none (RFC 4271 section 5.1.5).
	LocalPref Metric
	// MED is MULTI_EXIT_DISC (RFC 4271 section 5.1.4).
	MED Metric
	// Prepend is how many times more than once the local AS is in the AS_PATH to external
	// peers. Internal ones would take it for a loop (RFC 4271 section 5.1.2).
	Prepend uint8
}

// Equal reports whether a and b say the same.
func (a Advertisement) Equal(b Advertisement) bool {
	return a.Name == b.Name && a.LocalPref == b.LocalPref && a.MED == b.MED && a.Prepend == b.Prepend && slices.Equal(a.Peers, b.Peers) &&
		slices.Equal(a.Communities, b.Communities) && slices.Equal(a.LargeCommunities, b.LargeCommunities)
}

// Metric is a number that may be missing.
type Metric struct {
	Set   bool
	Value uint32
}

// Community is a community of RFC 1997.
type Community uint32

// String returns "65000:100".
func (c Community) String() string { return fmt.Sprintf("%d:%d", c>>16, c&0xffff) }

// LargeCommunity is a community of RFC 8092.
type LargeCommunity [3]uint32

// String returns "64512:1:2".
func (c LargeCommunity) String() string { return fmt.Sprintf("%d:%d:%d", c[0], c[1], c[2]) }

// Compare orders large communities.
func (c LargeCommunity) Compare(d LargeCommunity) int { return slices.Compare(c[:], d[:]) }

// Route is a prefix that a node announces.
type Route struct {
	Prefix netip.Prefix
	// Advertisements are the names of those that it is announced by. To a peer that more than
	// one of them reaches it is announced once: with the communities of all, and what else the
	// first of them says.
	Advertisements []string
	// HealthPort is where the node's service proxy says by HTTP whether it serves the address
	// by an endpoint of its own (Service spec.healthCheckNodePort); 0 asks nothing more than
	// whether the proxy works. An aggregate has none.
	HealthPort uint16
}

// Equal reports whether r and s say the same.
func (r Route) Equal(s Route) bool {
	return r.Prefix == s.Prefix && r.HealthPort == s.HealthPort && slices.Equal(r.Advertisements, s.Advertisements)
}

// RouteDelta returns the routes of want that are not in have or are others there, and those of
// have whose prefixes are not in want. Both arguments are sorted by prefix, and so are the results.
// Where both are the same slice it does not look at the routes.
func RouteDelta(have, want []Route) (changed, gone []Route) {
	if SameRoutes(have, want) {
		return nil, nil
	}
	for _, r := range want {
		for len(have) > 0 && ComparePrefixes(have[0].Prefix, r.Prefix) < 0 {
			gone, have = append(gone, have[0]), have[1:]
		}
		if len(have) > 0 && have[0].Prefix == r.Prefix {
			same := have[0].Equal(r)
			if have = have[1:]; same {
				continue
			}
		}
		changed = append(changed, r)
	}
	return changed, append(gone, have...)
}

// SameRoutes reports whether a and b are the same slice, which is never written to.
func SameRoutes(a, b []Route) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// FindRoute returns the one of routes, which are sorted by prefix, to prefix.
func FindRoute(routes []Route, prefix netip.Prefix) (Route, bool) {
	i, found := slices.BinarySearchFunc(routes, prefix, func(r Route, p netip.Prefix) int { return ComparePrefixes(r.Prefix, p) })
	if !found {
		return Route{}, false
	}
	return routes[i], true
}

// ComparePrefixes orders prefixes by address, the shorter of two with the same one first.
func ComparePrefixes(p, q netip.Prefix) int {
	return cmp.Or(p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
}

// BGPState is how a session fares, as the state machine of RFC 4271 section 8.2.2 has it.
type BGPState string

// The states. Connect and Active are one: a connection is tried from time to time.
const (
	BGPIdle        BGPState = "idle"
	BGPActive      BGPState = "active"
	BGPOpenSent    BGPState = "opensent"
	BGPOpenConfirm BGPState = "openconfirm"
	BGPEstablished BGPState = "established"
)

// BGPStates returns all states in the order in which a session goes through them.
func BGPStates() []BGPState {
	return []BGPState{BGPIdle, BGPActive, BGPOpenSent, BGPOpenConfirm, BGPEstablished}
}

// BFDState is how a BFD session fares (RFC 5880 section 4.1).
type BFDState string

// The states. A session that is taken down on purpose, by either side, is in BFDAdminDown.
const (
	BFDAdminDown BFDState = "admindown"
	BFDDown      BFDState = "down"
	BFDInit      BFDState = "init"
	BFDUp        BFDState = "up"
)

// BFDStates returns all states.
func BFDStates() []BFDState { return []BFDState{BFDAdminDown, BFDDown, BFDInit, BFDUp} }

// BGPReport is the state of a node's sessions.
type BGPReport struct {
	// Plan is the version of the newest plan whose routes have been handed to every session
	// that is established.
	Plan Version
	// Withheld are the prefixes of that plan that no router hears of yet, because the node's
	// service proxy does not serve them yet; sorted.
	Withheld []netip.Prefix
	// Sessions are sorted by peer; one for each peer of that plan.
	Sessions []BGPSession
}

// BGPSession is one of a node's sessions.
type BGPSession struct {
	Peer  string
	State BGPState
	// Reason says why the session is not established, as far as that is known, or what is wrong
	// with an established one; "" is also for one that has just begun, or that the node ended.
	Reason reason.Reason
	// Message is one sentence for a person, without anything secret.
	Message string
	// IPv4 and IPv6 report whether prefixes of the family are announced on an established
	// session: the router takes them, and the node has an address of that family to be the next
	// hop.
	IPv4, IPv6 bool
	// BFD is how the BFD session with the peer fares, "" where there is none.
	BFD BFDState
}
