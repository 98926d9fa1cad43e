package bgp

import (
	"fmt"
	"math"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"baremetal.cloud/ccm/pkg/announcer/bgp/dialer"
)

// The families as gobgp names them.
var (
	ipv4Unicast = &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	ipv6Unicast = &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
)

// gobgpPeer says in gobgp's terms what peer is, which it reaches by the dialer at that address.
func gobgpPeer(p Peer, at netip.AddrPort) *api.Peer {
	out := &api.Peer{
		Conf: &api.PeerConf{NeighborAddress: at.Addr().String(), PeerAsn: p.PeerASN, LocalAsn: p.LocalASN},
		Timers: &api.Timers{Config: &api.TimersConfig{
			// The dialer passes on as many KEEPALIVEs as are asked for, and retries itself.
			HoldTime: uint64(p.HoldTime.Seconds()), KeepaliveInterval: 1, ConnectRetry: 1,
		}},
		Transport: &api.Transport{RemotePort: uint32(at.Port())},
	}
	graceful := p.GracefulRestart > 0
	if graceful { // For End-of-RIB; the dialer says the rest.
		out.GracefulRestart = &api.GracefulRestart{Enabled: true, RestartTime: 1}
	}
	for _, f := range gobgpFamilies(p) {
		out.AfiSafis = append(out.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: f, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: graceful}},
		})
	}
	return out
}

// configOf says in the dialer's terms what peer is.
func configOf(p Peer, restarting bool) dialer.Config {
	c := dialer.Config{
		Router: netip.AddrPortFrom(p.Address, p.Port), Source: p.SourceAddress, Interface: p.Interface, Password: string(p.Password),
		ConnectRetry: p.ConnectRetryTime, Keepalive: p.KeepaliveTime, PeerASN: p.PeerASN, WithoutHoldTime: p.BFD.Watches(),
	}
	switch {
	case p.TTLSecurity > 0:
		c.TTL, c.MinimumTTL = math.MaxUint8, math.MaxUint8-(p.TTLSecurity-1) // RFC 5082 section 3
	case !p.Internal():
		c.TTL = max(1, p.EBGPMultihop)
	}
	all := dialer.Families{IPv4: p.IPv4, IPv6: p.IPv6}
	c.Open = dialer.Open{
		ASN: p.LocalASN, HoldTime: uint16(p.HoldTime.Seconds()), Identifier: p.RouterID.As4(), //nolint:gosec // The cloud-config allows no more.
		MultiProtocol: true, Families: all, FourOctet: true, RouteRefresh: true, ExtendedNextHop: p.ExtendedNextHop && p.IPv4,
	}
	if p.GracefulRestart > 0 {
		// kube-proxy forwards whatever becomes of this program: the F bit is true (RFC 4724 section 3).
		c.Open.GracefulRestart = dialer.GracefulRestart{
			Offered: true, Restarting: restarting, Notification: true, Time: uint16(p.GracefulRestart.Seconds()), //nolint:gosec // As above.
			Families: all, Forwarding: all,
		}
	}
	return c
}

func gobgpFamilies(p Peer) []*api.Family {
	var out []*api.Family
	if p.IPv4 {
		out = append(out, ipv4Unicast)
	}
	if p.IPv6 {
		out = append(out, ipv6Unicast)
	}
	return out
}

// encodePath says in gobgp's terms what p is, as peer hears it.
func encodePath(peer Peer, p path) (*api.Path, error) {
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
