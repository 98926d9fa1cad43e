package bgp

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/reason"
)

const (
	// maxReceived is how many prefixes of a family a router may send before it is cut off.
	// gobgp keeps each, some 1 KiB, also where a policy rejects it.
	maxReceived = 10000
	// floodPause is how long a router that sent more is left alone.
	floodPause = 5 * time.Minute
	// deferral bounds how long, after a restart, the router is waited for to say that it has
	// said everything (RFC 4724 section 4.1). What it says does not matter here.
	deferral = 3
)

// session is one peer's gobgp server. Its owner calls apply and close; what gobgp calls
// comes from goroutines of its own.
type session struct {
	peer Peer
	// address and signed are peer's, for gobgp's goroutines: they never change.
	address string
	signed  bool
	server  *server.BgpServer
	// paths are what the peer is told, and shared the different attributes that they have: many
	// prefixes have the same.
	paths  map[netip.Prefix]*attributes
	shared []*attributes
	// ipv4 and ipv6 are how many paths there are of each family.
	ipv4, ipv6 int
	// plain says that the router, when it was established last, did not take IPv4 prefixes
	// with IPv6 next hops, and that it should. It is told none.
	plain  bool
	cancel context.CancelFunc
	// changed is called after state has changed.
	changed func()

	mu    sync.Mutex
	state Session
	// why is the last thing that the log said went wrong since the state machine was last
	// established.
	why     reason.Reason
	message string
}

// open starts a session that tells what t has for peer from its first message on. With restarting it says
// that it comes back from a restart and that the node went on forwarding, so that a router
// keeps what it had heard (RFC 4724 section 4.1).
func open(peer Peer, t table, restarting bool, changed func(), logs func(string)) (*session, error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &session{
		peer: peer, address: peer.Address.String(), signed: peer.Password != "",
		paths: map[netip.Prefix]*attributes{}, cancel: cancel, changed: changed,
	}
	s.state = Session{BGPSession: announcement.BGPSession{Peer: peer.Name, State: announcement.BGPIdle}}
	s.server = server.NewBgpServer(server.LoggerOption(&logger{peer: peer.Name, heard: s.heard, lines: logs}))
	go s.server.Serve() // Never returns, whatever is called: it ends with the process.
	if err := s.start(ctx, t, restarting); err != nil {
		s.close()
		return nil, fmt.Errorf("peer %s: %w", peer.Name, err)
	}
	return s, nil
}

// start brings the server up: the paths are there before the peer is, or a router that
// helps a restart would drop what it had heard and not heard again at once.
func (s *session) start(ctx context.Context, t table, restarting bool) error {
	err := s.server.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn: s.peer.LocalASN, RouterId: s.peer.RouterID.String(), ListenPort: -1,
	}})
	if err != nil {
		return err
	}
	if err := s.rejectAll(ctx); err != nil {
		return err
	}
	if err := s.apply(t); err != nil {
		return err
	}
	watched := &api.WatchEventRequest{Peer: &api.WatchEventRequest_Peer{}}
	if err := s.server.WatchEvent(ctx, watched, s.watch); err != nil {
		return err
	}
	return s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: neighbour(s.peer, restarting)})
}

// rejectAll keeps what the router says out of the table: a path of its own to one of our
// prefixes could be preferred to ours, which would then be withdrawn.
func (s *session) rejectAll(ctx context.Context) error {
	everybody := &api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: "everybody", List: []string{"0.0.0.0/0", "::/0"}}
	if err := s.server.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: everybody}); err != nil {
		return err
	}
	policy := &api.Policy{Name: "nothing", Statements: []*api.Statement{{
		Name:       "nothing",
		Conditions: &api.Conditions{NeighborSet: &api.MatchSet{Type: api.MatchSet_ANY, Name: everybody.Name}},
		Actions:    &api.Actions{RouteAction: api.RouteAction_REJECT},
	}}}
	if err := s.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: policy}); err != nil {
		return err
	}
	// The default has to accept: our own paths pass here too.
	return s.server.AddPolicyAssignment(ctx, &api.AddPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Name: "global", Direction: api.PolicyDirection_IMPORT, Policies: []*api.Policy{{Name: policy.Name}}, DefaultAction: api.RouteAction_ACCEPT,
	}})
}

// apply makes what t has for the peer all that it hears.
func (s *session) apply(t table) error {
	s.shared = nil
	for prefix := range s.paths {
		if _, ok := t.routes[prefix]; !ok {
			if err := s.remove(prefix); err != nil {
				return err
			}
		}
	}
	for _, r := range t.routes {
		if err := s.announce(r, t.advertisements); err != nil {
			return err
		}
	}
	return nil
}

// announce tells the peer what it is to hear of r.
func (s *session) announce(r announcement.Route, advertisements map[string]announcement.Advertisement) error {
	p, ok := pathTo(s.peer, r, advertisements)
	if !ok {
		return s.remove(r.Prefix)
	}
	return s.put(p)
}

// put announces a path, in place of the one that it replaces, unless the router must not be
// told it (RFC 8950 section 4).
func (s *session) put(p path) error {
	if s.plain && p.prefix.Addr().Is4() {
		return s.remove(p.prefix)
	}
	have := s.paths[p.prefix]
	if have != nil && have.equal(p.attributes) {
		return nil
	}
	message, err := encode(s.peer, p)
	if err != nil {
		return err
	}
	if _, err := s.server.AddPath(context.Background(), &api.AddPathRequest{Path: message}); err != nil {
		return fmt.Errorf("announce %s: %w", p.prefix, err)
	}
	s.paths[p.prefix] = s.share(p.attributes)
	if have == nil {
		*s.number(p.prefix)++
	}
	return nil
}

// number returns how many paths there are of prefix's family.
func (s *session) number(prefix netip.Prefix) *int {
	if prefix.Addr().Is4() {
		return &s.ipv4
	}
	return &s.ipv6
}

// share returns attributes that are like a.
func (s *session) share(a attributes) *attributes {
	i := slices.IndexFunc(s.shared, func(b *attributes) bool { return b.equal(a) })
	if i < 0 {
		i = len(s.shared)
		s.shared = append(s.shared, &a)
	}
	return s.shared[i]
}

// remove withdraws a path, if there is one.
func (s *session) remove(prefix netip.Prefix) error {
	said := s.paths[prefix]
	if said == nil {
		return nil
	}
	message, err := encode(s.peer, path{prefix, *said})
	if err != nil {
		return err
	}
	if err := s.server.DeletePath(context.Background(), &api.DeletePathRequest{Path: message}); err != nil {
		return fmt.Errorf("withdraw %s: %w", prefix, err)
	}
	delete(s.paths, prefix)
	*s.number(prefix)--
	return nil
}

// withdraw takes back everything.
func (s *session) withdraw() {
	for _, prefix := range slices.Collect(maps.Keys(s.paths)) {
		_ = s.remove(prefix) // the process ends: the router will see that
	}
}

// close ends the session with a NOTIFICATION (Cease, Peer De-configured).
func (s *session) close() {
	_ = s.server.StopBgp(context.Background(), &api.StopBgpRequest{}) // has no errors of its own
	s.cancel()
}

// fail ends an established session because the path to the router failed, and tries again soon.
// The NOTIFICATION says, if it arrives, that this is no restart: the router is to drop the routes
// (RFC 4724 section 4). One that is not established finds out by itself.
func (s *session) fail(message string) {
	s.mu.Lock()
	established := s.state.State == announcement.BGPEstablished
	if established {
		s.why, s.message = reason.BFDDown, message
	}
	s.mu.Unlock()
	if established {
		_ = s.server.ResetPeer(context.Background(), &api.ResetPeerRequest{Address: s.address, Communication: message}) // has no other errors but that there is no such peer
	}
}

// watch takes gobgp's word on the session's state.
func (s *session) watch(r *api.WatchEventResponse) {
	event := r.GetPeer()
	if event == nil || event.GetType() != api.WatchEventResponse_PeerEvent_STATE {
		return
	}
	state, ok := states[event.GetPeer().GetState().GetSessionState()]
	if !ok {
		return
	}
	s.mu.Lock()
	before := s.state
	lost := before.State == announcement.BGPEstablished && state != announcement.BGPEstablished
	if lost {
		s.state.Losses++
	}
	s.state.State = state
	if state == announcement.BGPEstablished {
		s.why, s.message = "", ""
	} else if lost && s.why == "" {
		s.why, s.message = reason.PeerClosed, "the connection was closed"
	}
	s.state.Reason, s.state.Message = s.why, s.message
	if state != announcement.BGPEstablished {
		s.state.Received = 0
	}
	flooded := s.why == reason.PeerFloods && state == announcement.BGPIdle && before.State != state
	same := before == s.state
	s.mu.Unlock()
	if flooded {
		time.AfterFunc(floodPause, func() {
			_ = s.server.EnablePeer(context.Background(), &api.EnablePeerRequest{Address: s.address}) // gone meanwhile, or up
		})
	}
	if !same {
		s.changed()
	}
}

var states = map[api.PeerState_SessionState]announcement.BGPState{
	api.PeerState_IDLE:        announcement.BGPIdle,
	api.PeerState_CONNECT:     announcement.BGPActive,
	api.PeerState_ACTIVE:      announcement.BGPActive,
	api.PeerState_OPENSENT:    announcement.BGPOpenSent,
	api.PeerState_OPENCONFIRM: announcement.BGPOpenConfirm,
	api.PeerState_ESTABLISHED: announcement.BGPEstablished,
}

// heard takes what gobgp's log says went wrong.
func (s *session) heard(why reason.Reason, message string) {
	if s.signed && why == reason.PeerUnreachable {
		message += "; a router with another password looks the same"
	}
	s.mu.Lock()
	s.why, s.message = why, message
	same := s.state.State == announcement.BGPEstablished || s.state.Reason == why && s.state.Message == message
	if !same {
		s.state.Reason, s.state.Message = why, message
	}
	s.mu.Unlock()
	if !same {
		s.changed()
	}
}

// snapshot returns the session's state. Its owner calls it.
func (s *session) snapshot() Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.state
	out.IPv4, out.IPv6 = false, false
	if out.State != announcement.BGPEstablished {
		return out
	}
	out.IPv4 = s.state.IPv4 && s.peer.IPv4 && s.peer.nextHop(anyIPv4).IsValid() && !s.plain
	out.IPv6 = s.state.IPv6 && s.peer.IPv6 && s.peer.nextHop(anyIPv6).IsValid()
	if out.IPv4 {
		out.Routes += s.ipv4
	}
	if out.IPv6 {
		out.Routes += s.ipv6
	}
	return out
}

// count asks gobgp how much the router has sent, and what it takes. It reports whether the
// paths are to be put anew.
func (s *session) count() bool {
	received, v4, v6, extended := 0, false, false, false
	_ = s.server.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) { // has no errors of its own
		for _, f := range p.GetAfiSafis() {
			received += int(f.GetState().GetReceived()) //nolint:gosec // bounded by maxReceived
		}
		v4, v6, extended = taken(p.GetState().GetRemoteCap())
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Received, s.state.IPv4, s.state.IPv6 = received, v4, v6
	return s.learn(s.state.State == announcement.BGPEstablished, extended)
}

// learn takes whether the router takes IPv4 prefixes with IPv6 next hops, which is known once
// the session is established. It reports whether that is new.
func (s *session) learn(established, extended bool) bool {
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

// taken says which families a router with these capabilities takes (RFC 4760 section 8): one
// that names none takes IPv4; and whether it takes that with IPv6 next hops (RFC 8950 section 4).
func taken(capabilities []*anypb.Any) (v4, v6, extended bool) {
	named := false
	for _, c := range capabilities {
		message, err := c.UnmarshalNew()
		if err != nil {
			continue // one that gobgp does not know
		}
		switch m := message.(type) {
		case *api.MultiProtocolCapability:
			named = true
			v4 = v4 || proto.Equal(m.GetFamily(), ipv4Unicast)
			v6 = v6 || proto.Equal(m.GetFamily(), ipv6Unicast)
		case *api.ExtendedNexthopCapability:
			extended = extended || slices.ContainsFunc(m.GetTuples(), func(x *api.ExtendedNexthopCapabilityTuple) bool {
				return proto.Equal(x.GetNlriFamily(), ipv4Unicast) && x.GetNexthopFamily().GetAfi() == api.Family_AFI_IP6
			})
		}
	}
	return v4 || !named, v6, extended
}
