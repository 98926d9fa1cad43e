package bgp

import (
	"fmt"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// The families as gobgp names them.
var (
	ipv4Unicast = &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	ipv6Unicast = &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
)

// neighbour says in gobgp's terms what peer is.
func neighbour(p Peer, restarting bool) *api.Peer {
	out := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: p.Address.String(), PeerAsn: p.PeerASN, LocalAsn: p.LocalASN, AuthPassword: string(p.Password),
		},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: uint64(p.HoldTime.Seconds()), KeepaliveInterval: uint64(p.KeepaliveTime.Seconds()), ConnectRetry: uint64(p.ConnectRetryTime.Seconds()),
			IdleHoldTimeAfterReset: 1, // Of RFC 4271's IdleHoldTime, after fail: gobgp has 30 s.
		}},
		Transport: &api.Transport{RemotePort: uint32(p.Port), BindInterface: p.Interface},
	}
	if p.SourceAddress.IsValid() {
		out.Transport.LocalAddress = p.SourceAddress.String()
	}
	if p.EBGPMultihop > 0 {
		out.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(p.EBGPMultihop)}
	}
	if p.TTLSecurity > 0 {
		out.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: 256 - uint32(p.TTLSecurity)} // RFC 5082 section 3
	}
	graceful := p.GracefulRestart > 0
	if graceful {
		out.GracefulRestart = &api.GracefulRestart{
			Enabled: true, RestartTime: uint32(p.GracefulRestart.Seconds()), DeferralTime: deferral, LocalRestarting: restarting,
		}
	}
	for _, f := range families(p) {
		out.AfiSafis = append(out.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: f, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: graceful}},
			PrefixLimits:      &api.PrefixLimit{Family: f, MaxPrefixes: maxReceived},
		})
	}
	return out
}

func families(p Peer) []*api.Family {
	var out []*api.Family
	if p.IPv4 {
		out = append(out, ipv4Unicast)
	}
	if p.IPv6 {
		out = append(out, ipv6Unicast)
	}
	return out
}

// encode says in gobgp's terms what p is, as peer hears it.
func encode(peer Peer, p path) (*api.Path, error) {
	nlri, err := anypb.New(&api.IPAddressPrefix{Prefix: p.prefix.Addr().String(), PrefixLen: uint32(p.prefix.Bits())}) //nolint:gosec // 0 to 128
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", p.prefix, err)
	}
	out := &api.Path{Family: ipv4Unicast, Nlri: nlri}
	attributes := []proto.Message{&api.OriginAttribute{Origin: 0}} // IGP, RFC 4271 section 5.1.1
	if p.prefix.Addr().Is4() && p.nextHop.Is4() {
		attributes = append(attributes, &api.NextHopAttribute{NextHop: p.nextHop.String()})
	} else {
		if p.prefix.Addr().Is6() {
			out.Family = ipv6Unicast
		}
		// RFC 4760 section 3; for IPv4 with the next hop of RFC 8950.
		attributes = append(attributes, &api.MpReachNLRIAttribute{Family: out.Family, NextHops: []string{p.nextHop.String()}, Nlris: []*anypb.Any{nlri}})
	}
	if p.prepend > 0 {
		segment := &api.AsSegment{Type: api.AsSegment_AS_SEQUENCE}
		for range p.prepend {
			segment.Numbers = append(segment.Numbers, peer.LocalASN)
		}
		attributes = append(attributes, &api.AsPathAttribute{Segments: []*api.AsSegment{segment}})
	}
	if p.med.Set {
		attributes = append(attributes, &api.MultiExitDiscAttribute{Med: p.med.Value})
	}
	if p.localPref.Set {
		attributes = append(attributes, &api.LocalPrefAttribute{LocalPref: p.localPref.Value})
	}
	if len(p.communities) > 0 {
		attribute := &api.CommunitiesAttribute{}
		for _, c := range p.communities {
			attribute.Communities = append(attribute.Communities, uint32(c))
		}
		attributes = append(attributes, attribute)
	}
	if len(p.large) > 0 {
		attribute := &api.LargeCommunitiesAttribute{}
		for _, c := range p.large {
			attribute.Communities = append(attribute.Communities, &api.LargeCommunity{GlobalAdmin: c[0], LocalData1: c[1], LocalData2: c[2]})
		}
		attributes = append(attributes, attribute)
	}
	for _, a := range attributes {
		encoded, err := anypb.New(a)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", p.prefix, err)
		}
		out.Pattrs = append(out.Pattrs, encoded)
	}
	return out, nil
}
