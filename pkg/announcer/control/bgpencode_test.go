package control

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// bgpSet is a plan with a peer of every kind and routes of both families.
func bgpSet(revision uint64, prefixes ...string) plan.NodePlan {
	set := plan.NodePlan{Cluster: "cluster", Version: plan.Version{Term: 1, Revision: revision}}
	set.BGP.Peers = []plan.BGPPeer{
		{
			Name: "all", Address: netip.MustParseAddr("2001:db8::1"), Port: 1790, LocalASN: 64512, PeerASN: 4200000001,
			HoldTime: 9 * time.Second, KeepaliveTime: 3 * time.Second, ConnectRetryTime: 5 * time.Second,
			SourceAddress: netip.MustParseAddr("2001:db8::2"), Interface: "eth0", RouterID: netip.MustParseAddr("192.0.2.9"),
			PasswordFile: "key", EBGPMultihop: 3, TTLSecurity: 1, GracefulRestart: time.Minute, IPv4: true, IPv6: true,
			BFD: plan.BFD{TransmitInterval: 50 * time.Millisecond, ReceiveInterval: time.Second, DetectMultiplier: 5, MinimumTTL: 253},
		},
		{Name: "few", Address: netip.MustParseAddr("192.0.2.1"), Port: 179, LocalASN: 64512, PeerASN: 64513, HoldTime: 30 * time.Second, IPv4: true},
		{Name: "gateway", Address: netip.IPv6Unspecified(), Port: 179, LocalASN: 64512, PeerASN: 64513, HoldTime: 30 * time.Second, IPv4: true, IPv6: true, ExtendedNextHop: true},
	}
	set.BGP.Advertisements = []plan.Advertisement{
		{
			Name: "a/0", Peers: []string{"all", "few"}, Communities: []plan.Community{1, 0xffffff01},
			LargeCommunities: []plan.LargeCommunity{{1, 2, 3}, {4, 5, 6}},
			LocalPref:        plan.Metric{Set: true}, MED: plan.Metric{Set: true, Value: 7}, Prepend: 2,
		},
		{Name: "a/1", Peers: []string{"few"}},
	}
	for _, p := range prefixes {
		set.BGP.Routes = append(set.BGP.Routes, plan.Route{Prefix: netip.MustParsePrefix(p), Advertisements: []string{"a/1", "a/0"}})
	}
	if len(prefixes) > 0 {
		set.BGP.Routes[0].HealthPort = 30123
	}
	return set
}

// A plan with routes arrives as it was said, as a snapshot and as a difference.
func TestBGPPlanRoundTrip(t *testing.T) {
	over := func(have, want plan.NodePlan) *pb.Plan {
		t.Helper()
		data, err := proto.Marshal(planMessage(have, want))
		require.NoError(t, err)
		var p pb.Plan
		require.NoError(t, proto.Unmarshal(data, &p))
		got, err := applyPlan(have, &p)
		require.NoError(t, err)
		require.Equal(t, want, got)
		return &p
	}
	first := bgpSet(1, "192.0.2.0/24", "192.0.2.0/32", "192.0.2.7/32", "2001:db8::/64")
	require.True(t, over(plan.NodePlan{}, first).GetSnapshot())
	second := bgpSet(2, "192.0.2.0/32", "192.0.2.7/32", "192.0.2.8/32", "2001:db8::/64")
	p := over(first, second)
	require.False(t, p.GetSnapshot())
	require.Nil(t, p.GetBgp(), "nothing of it is new")
	require.Len(t, p.GetRoutes(), 2, "one is new, one has a health port now")
	require.Len(t, p.GetWithdrawnRoutes(), 1)
	third := bgpSet(3, "192.0.2.0/32", "192.0.2.7/32", "192.0.2.8/32", "2001:db8::/64")
	third.BGP.Routes[3].Advertisements = []string{"a/0"}
	third.BGP.Advertisements[1].MED = plan.Metric{Set: true}
	p = over(second, third)
	require.NotNil(t, p.GetBgp())
	require.Len(t, p.GetRoutes(), 1)
	none := bgpSet(4)
	none.BGP = plan.BGP{}
	over(third, none)
	over(none, bgpSet(5, "192.0.2.0/32"))
}

// The cloud-config lets pools and peers have names of 253 bytes, and numbers a pool's advertisements.
func TestLongestNamesOfBGP(t *testing.T) {
	name := strings.Repeat("a", maxName)
	set := bgpSet(1, "192.0.2.7/32")
	set.BGP.Peers = set.BGP.Peers[:1]
	set.BGP.Peers[0].Name = name
	set.BGP.Advertisements = set.BGP.Advertisements[:1]
	set.BGP.Advertisements[0].Name, set.BGP.Advertisements[0].Peers = name+"/1023", []string{name}
	set.BGP.Routes[0].Advertisements = []string{name + "/1023"}
	got, err := applyPlan(plan.NodePlan{}, planSnapshot(set))
	require.NoError(t, err)
	require.Equal(t, set, got)
}

// What a plan of a broken or hostile replica says is refused before anything is done with it.
func TestBGPPlanRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(p *pb.Plan)
		want   string
	}{
		"address":        {func(p *pb.Plan) { p.Bgp.Peers[0].Address = []byte{1} }, "plan: bgp peer 0: address of 1 bytes; it has 4 or 16"},
		"source":         {func(p *pb.Plan) { p.Bgp.Peers[0].SourceAddress = []byte{1} }, "plan: bgp peer 0: source address of 1 bytes; it has 4 or 16"},
		"router id":      {func(p *pb.Plan) { p.Bgp.Peers[0].RouterId = make([]byte, 16) }, "plan: bgp peer 0: router id of 16 bytes; it has 4"},
		"port":           {func(p *pb.Plan) { p.Bgp.Peers[0].Port = 65536 }, "plan: bgp peer 0: port 65536; the limit is 65535"},
		"hold time":      {func(p *pb.Plan) { p.Bgp.Peers[1].HoldTime = 1 << 20 }, "plan: bgp peer 1: hold time 1048576; the limit is 65535"},
		"no name":        {func(p *pb.Plan) { p.Bgp.Peers[0].Name = "" }, "plan: bgp peer 0: name is empty"},
		"bfd interval":   {func(p *pb.Plan) { p.Bgp.Peers[0].Bfd.ReceiveInterval = 9 }, "plan: bgp peer 0: bfd interval 9ms; the limits are 10ms and 1h0m0s"},
		"bfd multiplier": {func(p *pb.Plan) { p.Bgp.Peers[0].Bfd.DetectMultiplier = 0 }, "plan: bgp peer 0: bfd detect multiplier 0; the limits are 1 and 255"},
		"bfd ttl":        {func(p *pb.Plan) { p.Bgp.Peers[0].Bfd.MinimumTtl = 256 }, "plan: bgp peer 0: bfd minimum ttl 256; the limit is 255"},
		"order of peers": {func(p *pb.Plan) { p.Bgp.Peers[1].Name = "all" }, `plan: bgp peer 1: "all" comes after "all"; names ascend and each comes once`},
		"unknown peer":   {func(p *pb.Plan) { p.Bgp.Advertisements[0].Peers[0] = "x" }, `plan: advertisement "a/0": there is no peer "x"`},
		"large":          {func(p *pb.Plan) { p.Bgp.Advertisements[0].LargeCommunities = []uint32{1, 2} }, "plan: advertisement 0: large communities of 2 numbers; each has 3"},
		"communities":    {func(p *pb.Plan) { p.Bgp.Advertisements[0].Communities = make([]uint32, 65) }, "plan: advertisement 0: communities: 65 entries; the limit is 64"},
		"long name":      {func(p *pb.Plan) { p.Bgp.Advertisements[0].Name = strings.Repeat("a", 265) }, "plan: advertisement 0: name of 265 bytes; the limit is 264"},
		"nameless":       {func(p *pb.Plan) { p.Bgp.Advertisements[0].Name = "" }, "plan: advertisement 0: name is empty"},
		"prepend":        {func(p *pb.Plan) { p.Bgp.Advertisements[0].Prepend = 256 }, "plan: advertisement 0: prepend 256; the limit is 255"},
		"host bits":      {func(p *pb.Plan) { p.Routes[0].Prefix.Length = 24 }, "plan: route 0: prefix 192.0.2.7/24 has host bits set"},
		"length":         {func(p *pb.Plan) { p.Routes[0].Prefix.Length = 33 }, "plan: route 0: prefix length 33 of 192.0.2.7"},
		"no prefix":      {func(p *pb.Plan) { p.Routes[0].Prefix = nil }, "plan: route 0: address of 0 bytes; it has 4 or 16"},
		"order":          {func(p *pb.Plan) { p.Routes[0], p.Routes[1] = p.Routes[1], p.Routes[0] }, "plan: route 1: 192.0.2.7/32 comes after 192.0.2.8/32; prefixes ascend and each comes once"},
		"health port":    {func(p *pb.Plan) { p.Routes[1].HealthPort = 65536 }, "plan: route 1: health port 65536; the highest is 65535"},
		"unknown":        {func(p *pb.Plan) { p.Routes[0].Advertisements[0] = "x" }, `plan: route 192.0.2.7/32: there is no advertisement "x"`},
		"withdrawn":      {func(p *pb.Plan) { p.WithdrawnRoutes = []*pb.Prefix{p.Routes[0].Prefix} }, "plan: a snapshot withdraws nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			p := planSnapshot(bgpSet(1, "192.0.2.7/32", "192.0.2.8/32"))
			tt.change(p)
			_, err := applyPlan(plan.NodePlan{}, p)
			require.EqualError(t, err, tt.want)
		})
	}
	have := bgpSet(1, "192.0.2.7/32")
	p := planDelta(have, bgpSet(2))
	p.WithdrawnRoutes[0].Address[3] = 9
	_, err := applyPlan(have, p)
	require.ErrorIs(t, err, errDoesNotFit)
}

// What a node says of its sessions arrives as it was said; what no node can mean is refused.
func TestBGPReport(t *testing.T) {
	want := plan.BGPReport{Plan: plan.Version{Term: 2, Revision: 3}, Sessions: []plan.BGPSession{
		{Peer: "a", State: plan.BGPEstablished, IPv4: true, IPv6: true, BFD: plan.BFDUp},
		{Peer: "b", State: plan.BGPActive, Reason: reason.PeerUnreachable, Message: "refused"},
	}, Withheld: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::7/128")}}
	base, _ := sanitizeReport(plan.Report{})
	full, _ := sanitizeReport(plan.Report{BGP: want})
	got, err := applyReport(plan.Report{}, reportSnapshot(full))
	require.NoError(t, err)
	require.Equal(t, want, got.BGP)
	got, err = applyReport(base, reportDelta(base, full))
	require.NoError(t, err)
	require.Equal(t, want, got.BGP)
	require.Nil(t, reportDelta(full, full))
	served := full
	served.BGP.Withheld = nil
	got, err = applyReport(full, reportDelta(full, served))
	require.NoError(t, err)
	require.Empty(t, got.BGP.Withheld)
	p := reportSnapshot(full)
	p.BgpWithheld[1] = p.BgpWithheld[0]
	_, err = applyReport(plan.Report{}, p)
	require.ErrorContains(t, err, "report: withheld prefix 1: ")

	for name, change := range map[string]func(s *pb.BGPSession){
		"state":  func(s *pb.BGPSession) { s.State = "x" },
		"bfd":    func(s *pb.BGPSession) { s.Bfd = "x" },
		"reason": func(s *pb.BGPSession) { s.Reason = "no reason" },
		"order":  func(s *pb.BGPSession) { s.Peer = "a" },
		"name":   func(s *pb.BGPSession) { s.Peer = "" },
		"long":   func(s *pb.BGPSession) { s.Message = fmt.Sprintf("%300s", "x") },
	} {
		t.Run(name, func(t *testing.T) {
			p := reportSnapshot(full)
			change(p.BgpSessions[1])
			_, err := applyReport(plan.Report{}, p)
			require.ErrorContains(t, err, "report: bgp session 1: ")
		})
	}
}
