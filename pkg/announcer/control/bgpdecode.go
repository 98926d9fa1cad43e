package control

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// decodeBGP decodes what p says of BGP: peers and advertisements, of which there are none
// where it does not say, routes, and the prefixes withdrawn, both in increasing order.
func decodeBGP(p *pb.Plan) (b plan.BGP, withdrawn []netip.Prefix, err error) {
	if b.Peers, err = decodeBGPPeers(p.GetBgp().GetPeers()); err != nil {
		return b, nil, err
	}
	if b.Advertisements, err = decodeAdvertisements(p.GetBgp().GetAdvertisements()); err != nil {
		return b, nil, err
	}
	if b.Routes, err = decodeRoutes(p.GetRoutes()); err != nil {
		return b, nil, err
	}
	if err := checkCount("plan: withdrawn routes", len(p.GetWithdrawnRoutes()), maxAssignments); err != nil {
		return b, nil, err
	}
	withdrawn, err = decodePrefixes(p.GetWithdrawnRoutes())
	if err != nil {
		return b, nil, fmt.Errorf("plan: withdrawn route %w", err)
	}
	return b, withdrawn, nil
}

func decodeBGPPeers(list []*pb.BGPPeer) ([]plan.BGPPeer, error) {
	if err := checkCount("plan: bgp peers", len(list), maxBGPPeers); err != nil {
		return nil, err
	}
	var peers []plan.BGPPeer
	for i, p := range list {
		peer, err := decodeBGPPeer(p)
		if err == nil && i > 0 && peers[i-1].Name >= peer.Name {
			err = fmt.Errorf("%q comes after %q; names ascend and each comes once", peer.Name, peers[i-1].Name)
		}
		if err != nil {
			return nil, fmt.Errorf("plan: bgp peer %d: %w", i, err)
		}
		peers = append(peers, peer)
	}
	return peers, nil
}

// decodeBGPPeer checks what would make the BGP process fail, or what it cannot express.
func decodeBGPPeer(p *pb.BGPPeer) (peer plan.BGPPeer, err error) {
	seconds := func(n uint32) time.Duration { return time.Duration(n) * time.Second }
	peer = plan.BGPPeer{
		Name: p.GetName(), LocalASN: p.GetLocalAsn(), PeerASN: p.GetPeerAsn(),
		HoldTime: seconds(p.GetHoldTime()), KeepaliveTime: seconds(p.GetKeepaliveTime()), ConnectRetryTime: seconds(p.GetConnectRetryTime()),
		Interface: p.GetInterface(), PasswordFile: p.GetPasswordFile(), GracefulRestart: seconds(p.GetGracefulRestart()),
		IPv4: p.GetIpv4(), IPv6: p.GetIpv6(), ExtendedNextHop: p.GetExtendedNextHop(),
	}
	if err := checkName("name", peer.Name); err != nil {
		return peer, err
	}
	for what, n := range map[string]struct{ value, most uint32 }{
		"port": {p.GetPort(), math.MaxUint16}, "hold time": {p.GetHoldTime(), math.MaxUint16}, "keepalive time": {p.GetKeepaliveTime(), math.MaxUint16},
		"connect retry time": {p.GetConnectRetryTime(), math.MaxUint16}, "graceful restart": {p.GetGracefulRestart(), 4095},
		"ebgp multihop": {p.GetEbgpMultihop(), math.MaxUint8}, "ttl security": {p.GetTtlSecurity(), 254},
	} {
		if n.value > n.most {
			return peer, fmt.Errorf("%s %d; the limit is %d", what, n.value, n.most)
		}
	}
	peer.Port, peer.EBGPMultihop, peer.TTLSecurity = uint16(p.GetPort()), uint8(p.GetEbgpMultihop()), uint8(p.GetTtlSecurity()) //nolint:gosec // checked above
	if err := checkText("interface", peer.Interface, maxName); err != nil {
		return peer, err
	}
	if err := checkText("password file", peer.PasswordFile, maxName); err != nil {
		return peer, err
	}
	if peer.Address, err = decodeAddress(p.GetAddress()); err != nil {
		return peer, err
	}
	if len(p.GetSourceAddress()) > 0 {
		if peer.SourceAddress, err = decodeAddress(p.GetSourceAddress()); err != nil {
			return peer, fmt.Errorf("source %w", err)
		}
	}
	if len(p.GetRouterId()) > 0 {
		if peer.RouterID, err = decodeAddress(p.GetRouterId()); err != nil || !peer.RouterID.Is4() {
			return peer, fmt.Errorf("router id of %d bytes; it has 4", len(p.GetRouterId()))
		}
	}
	peer.BFD, err = decodeBFD(p.GetBfd())
	return peer, err
}

// decodeBFD checks what a session cannot be made of. The bounds of the cloud-config are narrower.
func decodeBFD(p *pb.BFD) (plan.BFD, error) {
	if p == nil {
		return plan.BFD{}, nil
	}
	milliseconds := func(n uint32) time.Duration { return time.Duration(n) * time.Millisecond }
	b := plan.BFD{TransmitInterval: milliseconds(p.GetTransmitInterval()), ReceiveInterval: milliseconds(p.GetReceiveInterval())}
	for _, interval := range []time.Duration{b.TransmitInterval, b.ReceiveInterval} {
		if interval < minBFDInterval || interval > maxBFDInterval {
			return plan.BFD{}, fmt.Errorf("bfd interval %s; the limits are %s and %s", interval, minBFDInterval, maxBFDInterval)
		}
	}
	if n := p.GetDetectMultiplier(); n == 0 || n > math.MaxUint8 {
		return plan.BFD{}, fmt.Errorf("bfd detect multiplier %d; the limits are 1 and %d", n, math.MaxUint8)
	}
	if n := p.GetMinimumTtl(); n > math.MaxUint8 {
		return plan.BFD{}, fmt.Errorf("bfd minimum ttl %d; the limit is %d", n, math.MaxUint8)
	}
	b.DetectMultiplier, b.MinimumTTL = uint8(p.GetDetectMultiplier()), uint8(p.GetMinimumTtl()) //nolint:gosec // checked above
	return b, nil
}

func decodeAdvertisements(list []*pb.Advertisement) ([]plan.Advertisement, error) {
	if err := checkCount("plan: advertisements", len(list), maxAdvertisements); err != nil {
		return nil, err
	}
	var out []plan.Advertisement
	for i, p := range list {
		a, err := decodeAdvertisement(p)
		if err == nil && i > 0 && out[i-1].Name >= a.Name {
			err = fmt.Errorf("%q comes after %q; names ascend and each comes once", a.Name, out[i-1].Name)
		}
		if err != nil {
			return nil, fmt.Errorf("plan: advertisement %d: %w", i, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func decodeAdvertisement(p *pb.Advertisement) (plan.Advertisement, error) {
	a := plan.Advertisement{Name: p.GetName(), Peers: slices.Clone(p.GetPeers()), LocalPref: decodeMetric(p.LocalPref), MED: decodeMetric(p.Med)}
	if a.Name == "" {
		return a, errors.New("name is empty")
	}
	if err := checkText("name", a.Name, maxAdvertisementName); err != nil {
		return a, err
	}
	if err := checkCount("peers", len(a.Peers), maxBGPPeers); err != nil {
		return a, err
	}
	if p.GetPrepend() > math.MaxUint8 {
		return a, fmt.Errorf("prepend %d; the limit is %d", p.GetPrepend(), math.MaxUint8)
	}
	a.Prepend = uint8(p.GetPrepend()) //nolint:gosec // checked above
	if err := checkCount("communities", len(p.GetCommunities()), maxCommunities); err != nil {
		return a, err
	}
	for _, c := range p.GetCommunities() {
		a.Communities = append(a.Communities, plan.Community(c))
	}
	large := p.GetLargeCommunities()
	if err := checkCount("large communities", len(large)/3, maxCommunities); err != nil {
		return a, err
	}
	if len(large)%3 != 0 {
		return a, fmt.Errorf("large communities of %d numbers; each has 3", len(large))
	}
	for c := range slices.Chunk(large, 3) {
		a.LargeCommunities = append(a.LargeCommunities, plan.LargeCommunity(c))
	}
	return a, nil
}

func decodeMetric(p *uint32) plan.Metric {
	if p == nil {
		return plan.Metric{}
	}
	return plan.Metric{Set: true, Value: *p}
}

func decodeRoutes(list []*pb.Route) ([]plan.Route, error) {
	if err := checkCount("plan: routes", len(list), maxAssignments); err != nil {
		return nil, err
	}
	var out []plan.Route
	var order ascendingPrefixes
	for i, p := range list {
		prefix, err := order.decodeNext(p.GetPrefix())
		switch {
		case err != nil:
		case p.GetHealthPort() > math.MaxUint16:
			err = fmt.Errorf("health port %d; the highest is %d", p.GetHealthPort(), math.MaxUint16)
		default:
			err = checkCount("advertisements", len(p.GetAdvertisements()), maxAdvertisements)
		}
		if err != nil {
			return nil, fmt.Errorf("plan: route %d: %w", i, err)
		}
		out = append(out, plan.Route{Prefix: prefix, Advertisements: slices.Clone(p.GetAdvertisements()), HealthPort: uint16(p.GetHealthPort())})
	}
	return out, nil
}

// decodePrefixes accepts prefixes in increasing order.
func decodePrefixes(list []*pb.Prefix) ([]netip.Prefix, error) {
	var out []netip.Prefix
	var order ascendingPrefixes
	for i, x := range list {
		prefix, err := order.decodeNext(x)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", i, err)
		}
		out = append(out, prefix)
	}
	return out, nil
}

// ascendingPrefixes decodes a list in strictly increasing order, one after the other.
type ascendingPrefixes struct{ last netip.Prefix }

func (a *ascendingPrefixes) decodeNext(p *pb.Prefix) (netip.Prefix, error) {
	prefix, err := decodePrefix(p)
	if err != nil {
		return netip.Prefix{}, err
	}
	if a.last.IsValid() && plan.ComparePrefixes(a.last, prefix) >= 0 {
		return netip.Prefix{}, fmt.Errorf("%s comes after %s; prefixes ascend and each comes once", prefix, a.last)
	}
	a.last = prefix
	return prefix, nil
}

// decodePrefix accepts a prefix without host bits.
func decodePrefix(p *pb.Prefix) (netip.Prefix, error) {
	address, err := decodeAddress(p.GetAddress())
	if err != nil {
		return netip.Prefix{}, err
	}
	if p.GetLength() > uint32(address.BitLen()) { //nolint:gosec // 32 or 128
		return netip.Prefix{}, fmt.Errorf("prefix length %d of %s", p.GetLength(), address)
	}
	prefix := netip.PrefixFrom(address, int(p.GetLength()))
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf("prefix %s has host bits set", prefix)
	}
	return prefix, nil
}

// applyBGP fills in what a delta leaves out of set's BGP.
func applyBGP(have plan.BGP, set *plan.NodePlan, p *pb.Plan, withdrawn []netip.Prefix) error {
	changed := set.BGP.Routes
	routes, err := mergeRoutes(have.Routes, changed, withdrawn)
	if err != nil {
		return err
	}
	if set.BGP.Routes = routes; len(routes) == 0 {
		set.BGP.Routes = nil // as in a snapshot without any
	}
	if p.GetBgp() != nil {
		return checkRoutes(set.BGP, set.BGP.Routes)
	}
	set.BGP.Peers, set.BGP.Advertisements = have.Peers, have.Advertisements
	return checkRoutes(set.BGP, changed) // the others were, with the same advertisements
}

// checkRoutes checks how many routes b has, and that what advertisements and routes, some of b's,
// refer to is there.
func checkRoutes(b plan.BGP, routes []plan.Route) error {
	if err := checkCount("plan: routes", len(b.Routes), maxAssignments); err != nil {
		return err
	}
	peers, advertisements := map[string]bool{}, map[string]bool{}
	for _, p := range b.Peers {
		peers[p.Name] = true
	}
	for _, a := range b.Advertisements {
		advertisements[a.Name] = true
		for _, name := range a.Peers {
			if !peers[name] {
				return fmt.Errorf("plan: advertisement %q: there is no peer %q", a.Name, name)
			}
		}
	}
	for _, r := range routes {
		for _, name := range r.Advertisements {
			if !advertisements[name] {
				return fmt.Errorf("plan: route %s: there is no advertisement %q", r.Prefix, name)
			}
		}
	}
	return nil
}

func decodeBGPReport(p *pb.Report) (plan.BGPReport, error) {
	out := plan.BGPReport{Plan: decodeVersion(p.GetBgpPlan())}
	if err := checkCount("report: withheld prefixes", len(p.GetBgpWithheld()), maxAssignments); err != nil {
		return out, err
	}
	var err error
	if out.Withheld, err = decodePrefixes(p.GetBgpWithheld()); err != nil {
		return out, fmt.Errorf("report: withheld prefix %w", err)
	}
	if err := checkCount("report: bgp sessions", len(p.GetBgpSessions()), maxBGPPeers); err != nil {
		return out, err
	}
	for i, x := range p.GetBgpSessions() {
		s := plan.BGPSession{Peer: x.GetPeer(), State: plan.BGPState(x.GetState()), Message: x.GetMessage(), IPv4: x.GetIpv4(), IPv6: x.GetIpv6(), BFD: plan.BFDState(x.GetBfd())}
		err := checkName("peer", s.Peer)
		if err == nil && i > 0 && out.Sessions[i-1].Peer >= s.Peer {
			err = fmt.Errorf("%q comes after %q; names ascend and each comes once", s.Peer, out.Sessions[i-1].Peer)
		}
		if err == nil && !slices.Contains(plan.BGPStates(), s.State) {
			err = fmt.Errorf("%.20q is no state of a session", s.State)
		}
		if err == nil && s.BFD != "" && !slices.Contains(plan.BFDStates(), s.BFD) {
			err = fmt.Errorf("%.20q is no state of a BFD session", s.BFD)
		}
		if err == nil {
			s.Reason, err = decodeReason(x.GetReason(), x.GetMessage())
		}
		if err != nil {
			return out, fmt.Errorf("report: bgp session %d: %w", i, err)
		}
		out.Sessions = append(out.Sessions, s)
	}
	return out, nil
}

// mergeRoutes returns have without those withdrawn, with changed replacing or added. All are
// sorted by prefix, and so is the result.
func mergeRoutes(have, changed []plan.Route, withdrawn []netip.Prefix) ([]plan.Route, error) {
	if len(changed)+len(withdrawn) == 0 {
		return have, nil
	}
	merged := make([]plan.Route, 0, len(have)+len(changed))
	for _, old := range have {
		for len(changed) > 0 && plan.ComparePrefixes(changed[0].Prefix, old.Prefix) < 0 {
			merged, changed = append(merged, changed[0]), changed[1:]
		}
		replaced := len(changed) > 0 && changed[0].Prefix == old.Prefix
		if len(withdrawn) > 0 && withdrawn[0] == old.Prefix {
			if replaced {
				return nil, fmt.Errorf("plan: route %s is both there and withdrawn", old.Prefix)
			}
			withdrawn = withdrawn[1:]
			continue
		}
		if replaced {
			old, changed = changed[0], changed[1:]
		}
		merged = append(merged, old)
	}
	if len(withdrawn) > 0 {
		return nil, fmt.Errorf("plan: route %s is withdrawn but not held: %w", withdrawn[0], errDoesNotFit)
	}
	return append(merged, changed...), nil
}
