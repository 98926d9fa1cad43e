package migrate

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"baremetal.cloud/ccm/pkg/ipam"
)

// What the cloud-config takes at most.
const (
	maxPrepend      = 10
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

// settleAdvertisements writes how a pool is announced by BGP: to peers that are carried over, in
// prefixes that lie within the pool.
func (c *converter) settleAdvertisements(p *pool) {
	for _, a := range p.adverts {
		if !c.keepPeers(&a) {
			continue
		}
		c.fitAggregation(p, &a)
		if a.ASPathPrepend > maxPrepend {
			c.lose(a.place, "asPathPrepend %d is more than the %d that are possible here", a.ASPathPrepend, maxPrepend)
			a.ASPathPrepend = maxPrepend
		}
		selectors := fold(a.NodeSelectors)
		if len(selectors) == 0 {
			selectors = []outSelector{{}}
		}
		for _, s := range selectors { // the same for nodes of any of them
			a.NodeSelectors = nil
			if !s.isEmpty() {
				a.NodeSelectors = []outSelector{s}
			}
			if clashes(p, a.outAdvertisement) {
				c.lose(a.place, "the BGP advertisement is not carried over: another one announces the same prefixes of the pool %q to the same peers with other attributes", p.Name)
				continue
			}
			p.BGP = append(p.BGP, a.outAdvertisement)
		}
	}
	if len(p.BGP) > 0 && len(p.L2) == 0 {
		c.hearFamilies(p)
	}
}

// clashes reports whether a says something else of a prefix than an advertisement of the pool before
// it, to a peer that both may reach from a node. The cloud-config refuses that.
func clashes(p *pool, a outAdvertisement) bool {
	return slices.ContainsFunc(p.BGP, func(b outAdvertisement) bool {
		nodes := len(a.NodeSelectors) == 0 || len(b.NodeSelectors) == 0 || reflect.DeepEqual(a.NodeSelectors, b.NodeSelectors)
		peers := len(a.Peers) == 0 || len(b.Peers) == 0 || slices.ContainsFunc(a.Peers, func(name string) bool { return slices.Contains(b.Peers, name) })
		prefixes := p.has(ipam.IPv4) && a.AggregationLength == b.AggregationLength || p.has(ipam.IPv6) && a.AggregationLengthV6 == b.AggregationLengthV6
		return nodes && peers && prefixes && (a.preference() != b.preference() || a.ASPathPrepend != b.ASPathPrepend)
	})
}

// preference returns the local preference; -1 if there is none.
func (a outAdvertisement) preference() int64 {
	if a.LocalPref == nil {
		return -1
	}
	return *a.LocalPref
}

// keepPeers leaves the peers of an advertisement that are carried over. It is false, with the reason
// recorded, if there are none.
func (c *converter) keepPeers(a *placedAdvertisement) bool {
	if len(c.peers) == 0 {
		c.lose(a.place, "the BGP advertisement is not carried over: no router is")
		return false
	}
	if len(a.Peers) == 0 {
		return true
	}
	var kept []string
	for _, name := range a.Peers {
		_, known := c.peer(ourName(name))
		switch {
		case known && !slices.Contains(kept, ourName(name)):
			kept = append(kept, ourName(name))
		case !known && !c.lostPeers[name]:
			c.note(a.place, "the source has no peer %q", name)
		}
	}
	if a.Peers = kept; len(kept) == 0 {
		c.lose(a.place, "the BGP advertisement is not carried over: none of its peers is")
	}
	return len(kept) > 0
}

func (c *converter) peer(name string) (*peer, bool) {
	for _, p := range c.peers {
		if p.Name == name {
			return p, true
		}
	}
	return nil, false
}

// fitAggregation drops an aggregation length that makes prefixes beyond the pool.
func (c *converter) fitAggregation(p *pool, a *placedAdvertisement) {
	for _, r := range p.ranges {
		length, key := &a.AggregationLength, "aggregationLength"
		if r.First.Is6() {
			length, key = &a.AggregationLengthV6, "aggregationLengthV6"
		}
		if *length == 0 {
			continue
		}
		for _, edge := range []netip.Addr{r.First, r.Last} {
			prefix, err := edge.Prefix(int(*length))
			if whole, parsed := ipam.ParseRange(prefix.String()); err == nil && parsed == nil && r.Contains(whole.First) && r.Contains(whole.Last) {
				continue
			}
			c.lose(a.place, "%s %d is not carried over: it makes prefixes that reach beyond %s of the pool; each address is announced by itself", key, *length, r.text)
			*length = 0
			break
		}
	}
}

// hearFamilies adds a family of the pool that none of its peers takes to all of these peers: the
// cloud-config refuses addresses of which no router hears.
func (c *converter) hearFamilies(p *pool) {
	for _, f := range p.families() {
		var peers []*peer
		heard := false
		for _, a := range p.BGP {
			for _, candidate := range c.peers {
				if len(a.Peers) == 0 || slices.Contains(a.Peers, candidate.Name) {
					peers = append(peers, candidate)
					heard = heard || candidate.takes(f)
				}
			}
		}
		if heard {
			continue
		}
		for _, candidate := range peers {
			if !candidate.takes(f) {
				candidate.Families = []string{"ipv4", "ipv6"}
				c.lose(candidate.place, "takes no %s prefixes there, so that no router hears of the %s addresses of the pool %q; that is not possible here, and the peer gets both families", f, f, p.Name)
			}
		}
	}
}

// alias is what the cloud-config takes as the name of a community.
var alias = regexp.MustCompile(`^[a-zA-Z]([-._a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$`)

// wellKnown are the names of communities that the cloud-config knows.
var wellKnown = []string{"graceful-shutdown", "accept-own", "blackhole", "no-export", "no-advertise", "no-export-subconfed", "no-peer"}

// community returns a community in the form of the cloud-config; "" if it is none.
func community(text string) string {
	text = strings.TrimPrefix(text, "large:")
	parts := strings.Split(text, ":")
	bits := 32
	if len(parts) == 2 {
		bits = 16
	}
	var numbers []string
	for _, part := range parts {
		n, err := strconv.ParseUint(part, 10, bits)
		if err != nil {
			return ""
		}
		numbers = append(numbers, strconv.FormatUint(n, 10))
	}
	switch len(numbers) {
	case 1: // RFC 1997 as one number
		n, _ := strconv.ParseUint(numbers[0], 10, 32)
		return fmt.Sprintf("%d:%d", n>>16, n&0xffff)
	case 2, 3:
		return strings.Join(numbers, ":")
	}
	return ""
}

// nameCommunity records a name for a community.
func (c *converter) nameCommunity(name string, value placedText) {
	form := community(value.text)
	switch before, taken := c.communities[name]; {
	case form == "":
		c.fail(value.place, `write 16-bit:16-bit like "65000:100", or a large one like "large:64512:1:2"`, "%q is no community", value.text)
	case taken && before != form:
		c.fail(value.place, "remove one of the two", "the name %q stands for %s, too", name, before)
	default:
		c.communities[name] = form
	}
}

// communityList returns communities as the cloud-config lists them: by name if the name can be one.
func (c *converter) communityList(texts []placedText) []string {
	var out, values []string
	for _, t := range texts {
		value, named := c.communities[t.text]
		word := t.text
		if !named {
			value = community(t.text)
			word = value
		}
		if named && (!alias.MatchString(word) || slices.Contains(wellKnown, word)) {
			word = value
		}
		if !named && slices.Contains(wellKnown, t.text) {
			value, word = t.text, t.text
		}
		switch {
		case value == "":
			c.fail(t.place, "give its number, or the object that names it", "%q is no community, and no name of one", t.text)
		case !slices.Contains(values, value):
			values, out = append(values, value), append(out, word)
		}
	}
	return out
}

// usedCommunities returns the names of communities that pools use.
func (c *converter) usedCommunities() map[string]string {
	used := map[string]string{}
	for _, p := range c.pools {
		for _, a := range p.BGP {
			for _, word := range a.Communities {
				if value, ok := c.communities[word]; ok && value != word {
					used[word] = value
				}
			}
		}
	}
	return used
}
