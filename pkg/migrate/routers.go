package migrate

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"baremetal.cloud/ccm/pkg/ipam"
)

// What the cloud-config takes at most.
const (
	maxConnectRetry = 10 * time.Minute
	maxBFDInterval  = 10 * time.Second
	// usualHoldTime is the hold time of MetalLB, OpenELB and Cilium if nothing is written.
	usualHoldTime = 90 * time.Second
	// usualRestartTime is that of FRR and Cilium.
	usualRestartTime = 2 * time.Minute
)

// addPeer adds a router. It is false, with the reason recorded, if the address cannot be one here.
func (c *converter) addPeer(name, address string, place Place) (*peer, bool) {
	p := &peer{outPeer: outPeer{Name: ourName(name), Address: strings.TrimSpace(address)}, place: place}
	if a, err := netip.ParseAddr(p.Address); err == nil && (a.Zone() != "" || a.IsLinkLocalUnicast()) {
		c.losePeer(name, place, "a router by its link-local address is not possible here")
		return nil, false
	}
	if p.Name == "" {
		c.fail(place, "give it a name of letters, digits, '-', '_' and '.'", "%q cannot be the name of a peer", name)
	}
	for _, other := range c.peers {
		if other.Name == p.Name {
			c.fail(place, "rename one of the two", "another peer has the name %q: %s", p.Name, other.place)
		}
	}
	c.peers = append(c.peers, p)
	return p, true
}

// losePeer records that a router is not carried over.
func (c *converter) losePeer(name string, place Place, format string, args ...any) {
	c.lostPeers[name] = true
	c.lose(place, "the peer is not carried over: "+format, args...)
}

// setTimers writes hold time and keepalive time; 0 is not given.
func (c *converter) setTimers(p *peer, hold, keepalive time.Duration, holdPlace, keepalivePlace Place) {
	p.HoldTime, p.KeepaliveTime = hold.Truncate(time.Second), keepalive.Truncate(time.Second)
	if p.HoldTime != hold {
		c.note(holdPlace, "%s is cut to whole seconds, which is what BGP can say", hold)
	}
	if p.HoldTime == 0 {
		p.HoldTime = usualHoldTime
		c.lose(holdPlace, "a session without a hold time is not possible here: it is %s", usualHoldTime)
	}
	if p.KeepaliveTime >= p.HoldTime || keepalive > 0 && p.KeepaliveTime == 0 {
		p.KeepaliveTime = 0
		c.lose(keepalivePlace, "%s does not go with a hold time of %s: it is a third of that", keepalive, p.HoldTime)
	}
}

// setConnectRetry writes the time between two attempts.
func (c *converter) setConnectRetry(p *peer, value time.Duration, place Place) {
	p.ConnectRetryTime = max(value.Truncate(time.Second), time.Second)
	if value > maxConnectRetry {
		p.ConnectRetryTime = maxConnectRetry
		c.lose(place, "%s is longer than the %s that are possible here", value, maxConnectRetry)
	}
}

// setBFD writes how the path to a peer is watched, if its other keys allow that.
func (c *converter) setBFD(p *peer, bfd outBFD, place Place) {
	for _, interval := range []*time.Duration{&bfd.TransmitInterval, &bfd.ReceiveInterval} {
		if *interval > maxBFDInterval {
			c.lose(place, "the interval %s is longer than the %s that are possible here", *interval, maxBFDInterval)
			*interval = maxBFDInterval
		}
	}
	transmit, multiplier := bfd.TransmitInterval, bfd.DetectMultiplier
	if transmit == 0 {
		transmit = 300 * time.Millisecond
	}
	if multiplier == 0 {
		multiplier = 3
	}
	if detection := transmit * time.Duration(multiplier); detection >= p.HoldTime {
		c.lose(place, "BFD would find out after %s that the router is gone, and holdTime is %s: it is left out", detection, p.HoldTime)
		return
	}
	if p.EBGPMultihop == 0 && !p.isInternal() {
		bfd.MinimumTTL = 0 // counts over several hops only, there too
	}
	p.BFD = &bfd
}

func (p *peer) isInternal() bool { return p.LocalASN == p.PeerASN }

// takes reports whether prefixes of the family are announced to the peer.
func (p *peer) takes(f ipam.Family) bool {
	if len(p.Families) > 0 {
		return slices.Contains(p.Families, familyWord(f))
	}
	if p.Address == "gateway" || p.Address == "gateway-v6" {
		return (p.Address == "gateway") == (f == ipam.IPv4)
	}
	a, err := netip.ParseAddr(p.Address)
	return err == nil && ipam.FamilyOf(a) == f
}

func familyWord(f ipam.Family) string {
	if f == ipam.IPv4 {
		return "ipv4"
	}
	return "ipv6"
}

// settlePeers fits the selectors of the peers.
func (c *converter) settlePeers() {
	for _, p := range c.peers {
		place := p.place
		place.Path = joinPath(place.Path, "nodeSelectors")
		p.NodeSelectors = fold(p.NodeSelectors)
	}
}

// peer returns the peer of that name.
func (c *converter) peer(name string) (*peer, bool) {
	for _, p := range c.peers {
		if p.Name == name {
			return p, true
		}
	}
	return nil, false
}
