package bgp

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"

	"baremetal.cloud/ccm/pkg/announcer/bgp/dialer"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// manyRoutes is how many routes a router may send in a session before that is reported.
const manyRoutes = 10000

// session is what one peer hears, by a gobgp and the dialer before it. One goroutine owns it.
type session struct {
	peer Peer
	// restarting is that it began as the process did.
	restarting bool
	server     *gobgp
	dialer     *dialer.Dialer
	// local is the node's address of the last connection to the router.
	local netip.Addr
	// paths are what the peer hears, and shared the different attributes that they have: many
	// prefixes have the same.
	paths  map[netip.Prefix]*attributes
	shared []*attributes
	// ipv4 and ipv6 are how many paths there are of each family.
	ipv4, ipv6 int
	// plain reports whether the router, when it was connected to last, did not take IPv4 prefixes
	// with IPv6 next hops, and that it should. It hears none.
	plain  bool
	cancel context.CancelFunc
}

// hooks are what a session calls, from goroutines of its own.
type hooks struct {
	// changed is called after its state has changed.
	changed func()
	// connected is called with the node's address when there is a connection to the router, and
	// returns once what is announced has it as its next hop, or ctx is done.
	connected func(ctx context.Context, s *session, local netip.Addr)
}

// openSession starts a session by server that tells what t has for peer from its first message on. With
// restarting it reports that it comes back from a restart (RFC 4724 section 4.1).
func openSession(server *gobgp, peer Peer, t table, restarting bool, h hooks) (*session, error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &session{peer: peer, restarting: restarting, server: server, paths: map[netip.Prefix]*attributes{}, cancel: cancel}
	var err error
	s.dialer, err = dialer.New(configOf(peer, restarting), dialer.Options{
		OnState:     h.changed,
		OnConnected: func(ctx context.Context, local netip.Addr) { h.connected(ctx, s, local) },
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("peer %s: %w", peer.Name, err)
	}
	go s.dialer.Run(ctx)
	if err := s.startServer(ctx, t); err != nil {
		cancel()
		return nil, fmt.Errorf("peer %s: %w", peer.Name, err)
	}
	return s, nil
}

// gobgpIdentifier is gobgp's BGP Identifier, which no router hears: the dialer says the node's.
const gobgpIdentifier = "255.255.255.255"

// startServer brings the server up: the paths are there before the peer is, or a router that
// helps a restart would drop what it had heard and not heard again at once.
func (s *session) startServer(ctx context.Context, t table) error {
	err := s.server.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: s.peer.LocalASN, RouterId: gobgpIdentifier, ListenPort: -1}})
	if err != nil {
		return err
	}
	if err := s.applyTable(t); err != nil {
		return err
	}
	return s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: gobgpPeer(s.peer, s.dialer.Address())})
}

// change makes peer, of the same local AS, the peer. Only what is negotiated ends the session.
func (s *session) change(peer Peer, t table) error {
	before := gobgpPeer(s.peer, s.dialer.Address())
	s.peer = peer
	ended := s.dialer.Set(configOf(peer, s.restarting))
	if !ended && proto.Equal(before, gobgpPeer(peer, s.dialer.Address())) {
		return s.applyTable(t)
	}
	return s.begin(func() error { return s.applyTable(t) })
}

// begin makes gobgp begin anew at once: of itself it waits for five seconds after an end. Between
// is done while it has no peer.
func (s *session) begin(between func() error) error {
	ctx := context.Background()
	at := s.dialer.Address()
	if err := s.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: at.Addr().String()}); err != nil {
		return err
	}
	if err := between(); err != nil {
		return err
	}
	return s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: gobgpPeer(s.peer, at)})
}

// connected takes the node's address of a new connection to the router, which every prefix of
// its family has as the next hop.
func (s *session) connected(local netip.Addr, t table) error {
	s.local = local
	return s.applyTable(t)
}

// reached returns the peer with the next hops that lead to the node from it.
func (s *session) reached() Peer { return s.peer.connectedFrom(s.local) }

// applyTable makes what t has for the peer all that it hears.
func (s *session) applyTable(t table) error {
	s.shared = nil
	for prefix := range s.paths {
		if _, ok := t.routes[prefix]; !ok {
			if err := s.removePath(prefix); err != nil {
				return err
			}
		}
	}
	for _, r := range t.routes {
		if err := s.announceRoute(r, t.advertisements); err != nil {
			return err
		}
	}
	return nil
}

// announceRoute tells the peer what it must hear of r.
func (s *session) announceRoute(r plan.Route, advertisements map[string]plan.Advertisement) error {
	p, ok := pathTo(s.reached(), r, advertisements)
	if !ok {
		return s.removePath(r.Prefix)
	}
	return s.addPath(p)
}

// addPath announces a path, in place of the one that it replaces, unless the router must not hear
// it (RFC 8950 section 4).
func (s *session) addPath(p path) error {
	if s.plain && p.prefix.Addr().Is4() {
		return s.removePath(p.prefix)
	}
	have := s.paths[p.prefix]
	if have != nil && have.equalAttributes(p.attributes) {
		return nil
	}
	message, err := encodePath(s.peer, p)
	if err != nil {
		return err
	}
	if _, err := s.server.AddPath(context.Background(), &api.AddPathRequest{Path: message}); err != nil {
		return fmt.Errorf("announce %s: %w", p.prefix, err)
	}
	s.paths[p.prefix] = s.shareAttributes(p.attributes)
	if have == nil {
		*s.pathCount(p.prefix)++
	}
	return nil
}

// pathCount returns how many paths there are of prefix's family.
func (s *session) pathCount(prefix netip.Prefix) *int {
	if prefix.Addr().Is4() {
		return &s.ipv4
	}
	return &s.ipv6
}

// shareAttributes returns attributes that are like a.
func (s *session) shareAttributes(a attributes) *attributes {
	i := slices.IndexFunc(s.shared, func(b *attributes) bool { return b.equalAttributes(a) })
	if i < 0 {
		i = len(s.shared)
		s.shared = append(s.shared, &a)
	}
	return s.shared[i]
}

// removePath withdraws a path, if there is one.
func (s *session) removePath(prefix netip.Prefix) error {
	said := s.paths[prefix]
	if said == nil {
		return nil
	}
	message, err := encodePath(s.peer, path{prefix, *said})
	if err != nil {
		return err
	}
	if err := s.server.DeletePath(context.Background(), &api.DeletePathRequest{Path: message}); err != nil {
		return fmt.Errorf("withdraw %s: %w", prefix, err)
	}
	delete(s.paths, prefix)
	*s.pathCount(prefix)--
	return nil
}

// withdrawAll takes back everything.
func (s *session) withdrawAll() {
	for _, prefix := range slices.Collect(maps.Keys(s.paths)) {
		_ = s.removePath(prefix) // the process ends: the router will see that
	}
}

// closeSession ends the session for good, with a NOTIFICATION by which the router drops the routes. The
// server is as new then.
func (s *session) closeSession() error {
	s.dialer.Remove()
	s.cancel()
	return s.server.reset(s.dialer.Address().Addr())
}

// failSession ends an established session because the path to the router failed, and tries again soon.
func (s *session) failSession(message string) error {
	if !s.dialer.Fail(message) {
		return nil
	}
	return s.begin(func() error { return nil })
}

// sessionState returns the session's state.
func (s *session) sessionState() Session {
	state := s.dialer.State()
	out := Session{
		BGPSession: plan.BGPSession{Peer: s.peer.Name, State: state.Phase, Reason: state.End.Reason, Message: state.End.Message},
		Received:   state.Received, Losses: state.Losses,
	}
	if out.State != plan.BGPEstablished {
		return out
	}
	if out.Received > manyRoutes {
		out.Reason, out.Message = reason.TooManyRoutes, fmt.Sprintf("the router has sent more than %d routes, none of which is used", manyRoutes)
	}
	takes, reached := state.Router.Takes(), s.reached()
	out.IPv4 = takes.IPv4 && s.peer.IPv4 && reached.nextHop(anyIPv4).IsValid() && !s.plain
	out.IPv6 = takes.IPv6 && s.peer.IPv6 && reached.nextHop(anyIPv6).IsValid()
	if out.IPv4 {
		out.Routes += s.ipv4
	}
	if out.IPv6 {
		out.Routes += s.ipv6
	}
	return out
}

// look takes what is new of the router. It reports whether to put the paths anew.
func (s *session) look() bool {
	state := s.dialer.State()
	return s.takeCapabilities(state.Phase == plan.BGPEstablished, state.Router.ExtendedNextHop)
}

// takeCapabilities takes whether the router takes IPv4 prefixes with IPv6 next hops, which is known once
// the session is established. It reports whether that is new.
func (s *session) takeCapabilities(established, extended bool) bool {
	before := s.plain
	if established {
		s.plain = s.peer.ExtendedNextHop && !extended
	}
	return s.plain != before
}

// Any prefix of each family.
var (
	anyIPv4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	anyIPv6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)
