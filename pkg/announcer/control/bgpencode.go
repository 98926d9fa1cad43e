package control

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// bgpSnapshot writes the whole of b into plan.
func bgpSnapshot(nodePlan *pb.Plan, b plan.BGP) {
	nodePlan.Bgp = encodeBGP(b)
	for _, r := range b.Routes {
		nodePlan.Routes = append(nodePlan.Routes, encodeRoute(r))
	}
}

// bgpDelta writes into plan what want says differently from base: peers and
// advertisements as a whole, and the routes one by one.
func bgpDelta(nodePlan *pb.Plan, base, want plan.BGP) {
	if !slices.Equal(base.Peers, want.Peers) || !slices.EqualFunc(base.Advertisements, want.Advertisements, plan.Advertisement.Equal) {
		nodePlan.Bgp = encodeBGP(want)
	}
	changed, gone := plan.RouteDelta(base.Routes, want.Routes)
	for _, r := range changed {
		nodePlan.Routes = append(nodePlan.Routes, encodeRoute(r))
	}
	for _, r := range gone {
		nodePlan.WithdrawnRoutes = append(nodePlan.WithdrawnRoutes, encodePrefix(r.Prefix))
	}
}

func encodeBGP(b plan.BGP) *pb.BGP {
	out := &pb.BGP{}
	for _, p := range b.Peers {
		out.Peers = append(out.Peers, encodeBGPPeer(p))
	}
	for _, a := range b.Advertisements {
		out.Advertisements = append(out.Advertisements, encodeAdvertisement(a))
	}
	return out
}

func encodeBGPPeer(p plan.BGPPeer) *pb.BGPPeer {
	return &pb.BGPPeer{
		Name: p.Name, Address: p.Address.AsSlice(), Port: uint32(p.Port), LocalAsn: p.LocalASN, PeerAsn: p.PeerASN,
		HoldTime: wholeSeconds(p.HoldTime), KeepaliveTime: wholeSeconds(p.KeepaliveTime), ConnectRetryTime: wholeSeconds(p.ConnectRetryTime),
		SourceAddress: p.SourceAddress.AsSlice(), Interface: p.Interface, RouterId: p.RouterID.AsSlice(), PasswordFile: p.PasswordFile,
		EbgpMultihop: uint32(p.EBGPMultihop), TtlSecurity: uint32(p.TTLSecurity), GracefulRestart: wholeSeconds(p.GracefulRestart),
		Ipv4: p.IPv4, Ipv6: p.IPv6, Bfd: encodeBFD(p.BFD), ExtendedNextHop: p.ExtendedNextHop,
	}
}

func encodeBFD(b plan.BFD) *pb.BFD {
	if !b.Watches() {
		return nil
	}
	milliseconds := func(d time.Duration) uint32 { return uint32(d.Milliseconds()) } //nolint:gosec // the configuration has bounds
	return &pb.BFD{
		TransmitInterval: milliseconds(b.TransmitInterval), ReceiveInterval: milliseconds(b.ReceiveInterval),
		DetectMultiplier: uint32(b.DetectMultiplier), MinimumTtl: uint32(b.MinimumTTL),
	}
}

func wholeSeconds(d time.Duration) uint32 { return uint32(d / time.Second) } //nolint:gosec // the configuration has bounds

func encodeAdvertisement(a plan.Advertisement) *pb.Advertisement {
	out := &pb.Advertisement{Name: a.Name, Peers: a.Peers, LocalPref: encodeMetric(a.LocalPref), Med: encodeMetric(a.MED), Prepend: uint32(a.Prepend)}
	for _, c := range a.Communities {
		out.Communities = append(out.Communities, uint32(c))
	}
	for _, c := range a.LargeCommunities {
		out.LargeCommunities = append(out.LargeCommunities, c[:]...)
	}
	return out
}

func encodeMetric(m plan.Metric) *uint32 {
	if !m.Set {
		return nil
	}
	return &m.Value
}

func encodeRoute(r plan.Route) *pb.Route {
	return &pb.Route{Prefix: encodePrefix(r.Prefix), Advertisements: r.Advertisements, HealthPort: uint32(r.HealthPort)}
}

func encodePrefix(p netip.Prefix) *pb.Prefix {
	return &pb.Prefix{Address: p.Addr().AsSlice(), Length: uint32(p.Bits())} //nolint:gosec // 0 to 128
}

func encodePrefixes(prefixes []netip.Prefix) []*pb.Prefix {
	var out []*pb.Prefix
	for _, p := range prefixes {
		out = append(out, encodePrefix(p))
	}
	return out
}

func encodeSessions(sessions []plan.BGPSession) []*pb.BGPSession {
	var out []*pb.BGPSession
	for _, s := range sessions {
		out = append(out, &pb.BGPSession{Peer: s.Peer, State: string(s.State), Reason: string(s.Reason), Message: s.Message, Ipv4: s.IPv4, Ipv6: s.IPv6, Bfd: string(s.BFD)})
	}
	return out
}

// sanitizePrefixes brings prefixes into the form that the channel carries.
func sanitizePrefixes(prefixes []netip.Prefix) []netip.Prefix {
	prefixes = slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool { return !p.IsValid() || p != p.Masked() })
	slices.SortFunc(prefixes, plan.ComparePrefixes)
	prefixes = slices.Compact(prefixes)
	return prefixes[:min(len(prefixes), maxAssignments)]
}

// sanitizeSessions brings sessions into the form that the channel carries.
func sanitizeSessions(sessions []plan.BGPSession) []plan.BGPSession {
	sessions = slices.DeleteFunc(slices.Clone(sessions), func(s plan.BGPSession) bool { return checkName("peer", s.Peer) != nil })
	slices.SortStableFunc(sessions, func(a, b plan.BGPSession) int { return cmp.Compare(a.Peer, b.Peer) })
	sessions = slices.CompactFunc(sessions, func(a, b plan.BGPSession) bool { return a.Peer == b.Peer })
	sessions = sessions[:min(len(sessions), maxBGPPeers)]
	for i := range sessions {
		sessions[i].Reason = reason.Reason(boundText(string(sessions[i].Reason), maxReason))
		sessions[i].Message = boundText(sessions[i].Message, maxMessage)
	}
	return sessions
}
