//go:build !race

// gobgp has data races of its own: its servers share variables of their package. What is
// tested with it is left out where the race detector looks.

package bgp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"baremetal.cloud/ccm/pkg/announcer/bfd"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// router is a BGP router on the loopback, for a speaker on the same: another gobgp.
type router struct {
	t    *testing.T
	s    *server.BgpServer
	asn  uint32
	port uint16
	// ends are what the router says of sessions that ended.
	ends chan string
}

// newRouter listens on a free port for a speaker in AS 64512.
func newRouter(t *testing.T, asn uint32) *router {
	t.Helper()
	r := &router{t: t, asn: asn, ends: make(chan string, 100)}
	r.s = server.NewBgpServer(server.LoggerOption(routerLog{&logger{lines: func(string) {}}, r.ends}))
	go r.s.Serve()
	for { // gobgp is to be told a port, and another process may take one that is free.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		r.port = l.Addr().(*net.TCPAddr).AddrPort().Port()
		require.NoError(t, l.Close())
		err = r.s.StartBgp(t.Context(), &api.StartBgpRequest{Global: &api.Global{
			Asn: asn, RouterId: "127.0.0.9", ListenPort: int32(r.port), ListenAddresses: []string{"127.0.0.1"},
		}})
		if !errors.Is(err, unix.EADDRINUSE) {
			require.NoError(t, err)
			break
		}
	}
	peer := external("speaker")
	peer.LocalASN, peer.PeerASN, peer.GracefulRestart = asn, 64512, time.Minute
	n := gobgpPeer(peer, netip.MustParseAddrPort("127.0.0.1:0"))
	n.Transport.PassiveMode = true
	n.GracefulRestart.RestartTime, n.GracefulRestart.NotificationEnabled = 60, true
	require.NoError(t, r.s.AddPeer(t.Context(), &api.AddPeerRequest{Peer: n}))
	t.Cleanup(func() { _ = r.s.StopBgp(context.Background(), &api.StopBgpRequest{}) })
	return r
}

// routerLog takes the NOTIFICATIONs that a router hears.
type routerLog struct {
	*logger
	ends chan<- string
}

// Warn implements the logger of gobgp.
func (l routerLog) Warn(msg string, fields gobgplog.Fields) {
	if msg != "received notification" {
		return
	}
	select {
	case l.ends <- fmt.Sprintf("%d/%d %v", fields["Code"], fields["Subcode"], fields["Data"]):
	default: // The test does not look.
	}
}

// peer is the router as a peer of the speaker.
func (r *router) peer(name string) Peer {
	p := external(name)
	p.Address, p.Port, p.PeerASN = netip.MustParseAddr("127.0.0.1"), r.port, r.asn
	return p
}

// heard returns what the speaker has told, a line for each prefix, sorted; those that are kept
// only while it restarts are marked.
func (r *router) heard() []string {
	lines := []string{}
	for _, family := range []*api.Family{ipv4Unicast, ipv6Unicast} {
		_ = r.s.ListPath(context.Background(), &api.ListPathRequest{TableType: api.TableType_ADJ_IN, Name: "127.0.0.1", Family: family}, func(d *api.Destination) {
			for _, p := range d.GetPaths() {
				line := d.GetPrefix() + attributesOf(p.GetPattrs())
				if p.GetStale() {
					line += " stale"
				}
				lines = append(lines, line)
			}
		})
	}
	slices.Sort(lines)
	return lines
}

func attributesOf(all []*anypb.Any) string {
	var parts []string
	part := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	for _, a := range all {
		message, err := a.UnmarshalNew()
		if err != nil {
			return err.Error()
		}
		switch m := message.(type) {
		case *api.NextHopAttribute:
			part("via %s", m.GetNextHop())
		case *api.MpReachNLRIAttribute:
			part("via %s", m.GetNextHops()[0])
		case *api.AsPathAttribute:
			for _, s := range m.GetSegments() {
				part("path %v", s.GetNumbers())
			}
		case *api.MultiExitDiscAttribute:
			part("med %d", m.GetMed())
		case *api.LocalPrefAttribute:
			part("pref %d", m.GetLocalPref())
		case *api.CommunitiesAttribute:
			for _, c := range m.GetCommunities() {
				part("%s", plan.Community(c))
			}
		case *api.LargeCommunitiesAttribute:
			for _, c := range m.GetCommunities() {
				part("%d:%d:%d", c.GetGlobalAdmin(), c.GetLocalData1(), c.GetLocalData2())
			}
		}
	}
	slices.Sort(parts)
	return " " + strings.Join(parts, " ")
}

// hears waits until the speaker has told just that.
func (r *router) hears(lines ...string) {
	r.t.Helper()
	lines = append([]string{}, lines...)
	slices.Sort(lines)
	require.EventuallyWithT(r.t, func(c *assert.CollectT) { require.Equal(c, lines, r.heard()) }, patience, 10*time.Millisecond)
}

// announce has the router tell a prefix.
func (r *router) announce(prefix string) {
	r.t.Helper()
	p := path{netip.MustParsePrefix(prefix), attributes{nextHop: netip.MustParseAddr("127.0.0.9"), localPref: number(1000)}}
	message, err := encodePath(external("speaker"), p)
	require.NoError(r.t, err)
	_, err = r.s.AddPath(r.t.Context(), &api.AddPathRequest{Path: message})
	require.NoError(r.t, err)
}

// TestSession drives the whole of it against routers: attributes as they arrive, changes in
// place, a restart that changes nothing, and what routers say.
func TestSession(t *testing.T) {
	t.Parallel()
	out, in := newRouter(t, 64513), newRouter(t, 64512)
	s := speak(t, "real")
	first, second := out.peer("out"), in.peer("in")
	first.GracefulRestart, second.GracefulRestart = time.Minute, time.Minute
	advertisement := plan.Advertisement{
		Name: "pool/0", Peers: []string{"in", "out"}, Communities: []plan.Community{64512<<16 | 7},
		LargeCommunities: []plan.LargeCommunity{{64512, 1, 2}}, LocalPref: number(300), MED: number(5), Prepend: 1,
	}
	want := Desired{
		Plan: nodePlan(1), Peers: []Peer{second, first}, Advertisements: []plan.Advertisement{advertisement},
		Routes: []plan.Route{{Prefix: v4, Advertisements: []string{"pool/0"}}, {Prefix: v6, Advertisements: []string{"pool/0"}}},
	}
	s.Set(want)
	out.hears("192.0.2.1/32 64512:1:2 64512:7 med 5 path [64512 64512] via 198.51.100.11", "2001:db8::1/128 64512:1:2 64512:7 med 5 path [64512 64512] via 2001:db8:1::b")
	in.hears("192.0.2.1/32 64512:1:2 64512:7 med 5 pref 300 via 198.51.100.11", "2001:db8::1/128 64512:1:2 64512:7 med 5 pref 300 via 2001:db8:1::b")
	state := s.until("both established", func(s State) bool {
		return s.Plan == nodePlan(1) && len(s.Sessions) == 2 && s.Sessions[0].IPv6 && s.Sessions[1].IPv6 && s.Sessions[0].Routes == 2 && s.Sessions[1].Routes == 2
	})
	require.Equal(t, plan.BGPEstablished, state.Sessions[0].State)

	// R8: what a router says of the same prefix is not preferred to what the node says.
	in.announce("192.0.2.1/32")
	in.announce("203.0.113.0/24")
	want.Plan, want.Advertisements[0].MED = nodePlan(2), number(6)
	want.Advertisements = slices.Clone(want.Advertisements)
	want.Advertisements[0].Communities = nil
	s.Set(want)
	out.hears("192.0.2.1/32 64512:1:2 med 6 path [64512 64512] via 198.51.100.11", "2001:db8::1/128 64512:1:2 med 6 path [64512 64512] via 2001:db8:1::b")
	want.Plan, want.Routes = nodePlan(3), want.Routes[:1]
	s.Set(want)
	out.hears("192.0.2.1/32 64512:1:2 med 6 path [64512 64512] via 198.51.100.11")
	in.hears("192.0.2.1/32 64512:1:2 med 6 pref 300 via 198.51.100.11")
	require.Zero(t, s.until("no session was reset", at(3)).Sessions[0].Losses)

	// R10: the process ends as with its announcer; the routers keep what they heard.
	s.stop()
	out.hears("192.0.2.1/32 64512:1:2 med 6 path [64512 64512] via 198.51.100.11 stale")
	again := speak(t, "real")
	want.Plan = nodePlan(4)
	again.Set(want)
	again.until("established again", func(s State) bool {
		return s.Plan == nodePlan(4) && len(s.Sessions) == 2 && s.Sessions[0].Routes == 1 && s.Sessions[1].Routes == 1
	})
	out.hears("192.0.2.1/32 64512:1:2 med 6 path [64512 64512] via 198.51.100.11")

	// R6: another configuration of one peer ends its session, and no other.
	want.Plan, want.Peers = nodePlan(5), slices.Clone(want.Peers)
	want.Peers[1].HoldTime = 30 * time.Second
	again.Set(want)
	state = again.until("established once more", func(s State) bool {
		return s.Plan == nodePlan(5) && len(s.Sessions) == 2 && s.Sessions[0].State == plan.BGPEstablished && s.Sessions[1].State == plan.BGPEstablished
	})
	require.Zero(t, state.Sessions[0].Losses)
}

// IPv4 prefixes with IPv6 next hops, and back.
func TestExtendedNextHop(t *testing.T) {
	t.Parallel()
	r := newRouter(t, 64513)
	s := speak(t, "real")
	peer := r.peer("out")
	peer.ExtendedNextHop, peer.NextHopV4 = true, netip.Addr{}
	want := Desired{
		Plan: nodePlan(1), Peers: []Peer{peer}, Advertisements: []plan.Advertisement{{Name: "pool/0", Peers: []string{"out"}}},
		Routes: []plan.Route{{Prefix: v4, Advertisements: []string{"pool/0"}}, {Prefix: v6, Advertisements: []string{"pool/0"}}},
	}
	s.Set(want)
	r.hears("192.0.2.1/32 path [64512] via 2001:db8:1::b", "2001:db8::1/128 path [64512] via 2001:db8:1::b")
	s.until("both families", func(s State) bool {
		return len(s.Sessions) == 1 && s.Sessions[0].IPv4 && s.Sessions[0].IPv6 && s.Sessions[0].Routes == 2
	})
	want.Plan, want.Routes = nodePlan(2), want.Routes[1:]
	s.Set(want)
	r.hears("2001:db8::1/128 path [64512] via 2001:db8:1::b")
}

// A router that does not take IPv4 prefixes with IPv6 next hops is told none once that is known,
// and hears of them again when it does.
func TestPlainNextHop(t *testing.T) {
	t.Parallel()
	peer := external("out")
	peer.Address, peer.ExtendedNextHop = netip.MustParseAddr("127.0.0.1"), true
	connected := func(context.Context, *session, netip.Addr) {}
	s, err := openSession(newGobgp(func(string) {}), peer, table{}, false, hooks{func() {}, connected})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.closeSession()) })
	names := []string{"pool/0"}
	all := table{
		advertisements: map[string]plan.Advertisement{"pool/0": {Name: "pool/0", Peers: []string{"out"}}},
		routes:         map[netip.Prefix]plan.Route{v4: {Prefix: v4, Advertisements: names}, v6: {Prefix: v6, Advertisements: names}},
	}
	told := func() []netip.Prefix {
		require.NoError(t, s.applyTable(all))
		return slices.SortedFunc(maps.Keys(s.paths), plan.ComparePrefixes)
	}
	require.Equal(t, []netip.Prefix{v4, v6}, told())
	require.False(t, s.takeCapabilities(false, false), "what the router takes is not known")
	require.Equal(t, []netip.Prefix{v4, v6}, told())
	require.True(t, s.takeCapabilities(true, false))
	require.Equal(t, []netip.Prefix{v6}, told())
	require.False(t, s.takeCapabilities(false, false), "it is away")
	require.Equal(t, []netip.Prefix{v6}, told())
	require.True(t, s.takeCapabilities(true, true))
	require.Equal(t, []netip.Prefix{v4, v6}, told())
}

// TestLeave: without graceful restart the routes are withdrawn.
func TestLeave(t *testing.T) {
	t.Parallel()
	r := newRouter(t, 64513)
	s := speak(t, "real")
	advertisement := plan.Advertisement{Name: "pool/0", Peers: []string{"out"}}
	s.Set(Desired{
		Plan: nodePlan(1), Peers: []Peer{r.peer("out")}, Advertisements: []plan.Advertisement{advertisement},
		Routes: []plan.Route{{Prefix: v4, Advertisements: []string{"pool/0"}}},
	})
	r.hears("192.0.2.1/32 path [64512] via 198.51.100.11")
	s.stop()
	r.hears()
}

// A path that fails ends the session by a NOTIFICATION, so that a router which keeps routes over
// a restart drops them, and the session comes back by itself.
func TestBrokenPath(t *testing.T) {
	t.Parallel()
	r := newRouter(t, 64513)
	peer := r.peer("out")
	peer.GracefulRestart = time.Minute
	peer.BFD = plan.BFD{TransmitInterval: time.Second, ReceiveInterval: time.Second, DetectMultiplier: 3}
	s := speak(t, "real")
	s.Set(Desired{Plan: nodePlan(1), Peers: []Peer{peer}})
	established := func(losses uint64) func(State) bool {
		return func(s State) bool {
			return len(s.Sessions) == 1 && s.Sessions[0].State == plan.BGPEstablished && s.Sessions[0].Losses == losses
		}
	}
	s.until("established", established(0))
	s.OnBFD(bfd.Event{Key: bfd.Key{Peer: peer.Address}, State: bfd.Down, Previous: bfd.Up, RemoteState: bfd.Down, Diagnostic: bfd.NeighborSignaledDown, RemoteDiagnostic: bfd.DetectionTimeExpired})
	const why = "BFD: the router says that it does not hear the node (detection time expired)"
	s.until("established again", established(1))
	require.True(t, s.saw(func(s State) bool {
		return len(s.Sessions) == 1 && s.Sessions[0].Reason == reason.BFDDown && s.Sessions[0].Message == why
	}))
	require.Equal(t, "6/9 [6 10]", <-r.ends, "a Hard Reset for BFD Down")
}

// TestTroubles is R9: each trouble is named, and the session that has none goes on.
func TestTroubles(t *testing.T) {
	t.Parallel()
	good, wrong := newRouter(t, 64513), newRouter(t, 64514)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	peers := []Peer{good.peer("closed"), good.peer("good"), good.peer("silent"), wrong.peer("wrong-as")}
	peers[0].Port = 1 // tcpmux (RFC 1078), which nobody runs
	peers[2].Port = uint16(silent.Addr().(*net.TCPAddr).Port)
	peers[3].PeerASN = 65000
	s := speak(t, "real")
	s.Set(Desired{Plan: nodePlan(1), Peers: peers})
	state := s.until("each is named", func(s State) bool {
		return len(s.Sessions) == 4 && s.Sessions[0].Reason == reason.PeerUnreachable && s.Sessions[1].State == plan.BGPEstablished &&
			s.Sessions[2].State == plan.BGPOpenSent && s.Sessions[3].Reason == reason.NotificationSent
	})
	require.Contains(t, state.Sessions[0].Message, "connection refused")
	require.Contains(t, state.Sessions[3].Message, "Bad Peer AS")
	require.Zero(t, state.Failures)
}
