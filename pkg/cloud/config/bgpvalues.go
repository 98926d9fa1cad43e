package config

import (
	"math"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Bounds of a peer's times. The least hold time is RFC 4271's, section 4.2; the greatest is
// what fits its field, as is the restart time of RFC 4724, section 3.
const (
	minHoldTime      = 3 * time.Second
	maxHoldTime      = math.MaxUint16 * time.Second
	minKeepaliveTime = time.Second
	minConnectRetry  = time.Second
	maxConnectRetry  = 10 * time.Minute
	minRestartTime   = time.Second
	maxRestartTime   = 4095 * time.Second
	minBFDInterval   = 10 * time.Millisecond
	maxBFDInterval   = 10 * time.Second
	// keepalives is how many of them fit into a hold time by default (RFC 4271 section 4.4).
	keepalives = 3
)

// peerName checks a name that no peer before has.
func (r peerReader) peerName(s spot, text string) string {
	name := objectName(s, text)
	if first, taken := r.named[name]; taken && name != "" {
		s.fail("", "another peer has the name %q, at %s", name, first.position())
		return ""
	}
	r.named[name] = s
	return name
}

// gateways are the words for a node's default gateway of each family, and how a peer's address
// says so.
var gateways = map[string]netip.Addr{"gateway": netip.IPv4Unspecified(), "gateway-v6": netip.IPv6Unspecified()}

// routerAddress reads the address of a router, or a word for the node's default gateway. A
// template has none yet.
func routerAddress(s spot, v orTemplate[string]) netip.Addr {
	if v.template != "" {
		v.template.checkTemplate(s)
		return netip.Addr{}
	}
	if gateway, ok := gateways[v.value]; ok {
		return gateway
	}
	return readUnicast(s, v.value)
}

// peerASN checks the AS number of a router. A template has none yet.
func peerASN(s spot, v orTemplate[int]) uint32 {
	if v.template != "" {
		v.template.checkTemplate(s)
		return 0
	}
	return readASN(s, v.value)
}

// routerText names a router as the file does.
func routerText(p Peer) string {
	for word, address := range gateways {
		if p.Address == address {
			return "the " + word
		}
	}
	return p.Address.String()
}

// readUnicast reads an address that a machine on a network can have.
func readUnicast(s spot, text string) netip.Addr {
	if !s.given() {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		s.fail(addressCure(text), "%q is not an address", text)
		return netip.Addr{}
	}
	if why, cure := whyUnusable(a); why != "" {
		s.fail(cure, "%s %s", a, why)
		return netip.Addr{}
	}
	return a
}

// whyUnusable returns why a is no address that a machine on a network can have, with a cure if one
// is known; or "".
func whyUnusable(a netip.Addr) (why, cure string) {
	switch {
	case a.Zone() != "" || a.IsLinkLocalUnicast():
		return "is link-local, which is not supported by this version", "write a global address"
	case a.Is4In6():
		return "is an IPv4 address in the form of an IPv6 one", "write " + a.Unmap().String()
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is no address of a machine on a network", ""
	}
	return "", ""
}

// readASN checks the number of an autonomous system that may be used.
func readASN(s spot, number int) uint32 {
	switch {
	case !s.given():
	case number < 1 || number > math.MaxUint32-1:
		s.fail("", "%d is not between %d and %d", number, 1, uint32(math.MaxUint32-1))
	case !isAssignable(uint64(number)): //nolint:gosec // bounded
		s.fail("", "%d is reserved and no AS's number", number)
	}
	return uint32(number) //nolint:gosec // bounded
}

// isAssignable reports whether an autonomous system can have the number (RFC 7607, RFC 6793
// section 9, RFC 7300).
func isAssignable(i uint64) bool {
	return i != 0 && i != 23456 && i != math.MaxUint16 && i < math.MaxUint32
}

// interfaceName checks the name of one interface.
func interfaceName(s spot, name string) string {
	checkInterfaces(s, name)
	if s.given() && name != "" && (name[0] == '/' || len(name) > maxInterfaceName) {
		s.fail("write the name of one interface", "%q may be several", name)
	}
	return name
}

func routerID(s spot, text string) netip.Addr {
	if !s.given() {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() || a.IsUnspecified() {
		s.fail("write it like an IPv4 address, and not 0.0.0.0", "%q is no BGP Identifier", text)
		return netip.Addr{}
	}
	return a
}

// secretKey is what a key of a Secret may be, which becomes a file's name.
var secretKey = regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)

func fileName(s spot, text string) string {
	if s.given() && (!secretKey.MatchString(text) || text == "." || text == "..") {
		s.fail("write the key in the Secret baremetal-bgp-passwords that has the password", "%q is no name of a file", text)
	}
	return text
}

// setDefaults makes the time short: a dead node looks the same to routers as one with an announcer
// that restarts.
func (r *restart) setDefaults() { r.RestartTime = time.Minute }

// gracefulRestart returns how long routers are asked to keep the routes of a node while its
// announcer restarts; 0 if they are not asked.
func gracefulRestart(s spot, r *restart) time.Duration {
	if r == nil {
		return 0
	}
	return wholeSeconds(s.key("restartTime"), r.RestartTime, minRestartTime, maxRestartTime)
}

// setDefaults gives what most routers have, too.
func (b *bfdShape) setDefaults() {
	*b = bfdShape{TransmitInterval: 300 * time.Millisecond, ReceiveInterval: 300 * time.Millisecond, DetectMultiplier: 3}
}

// readBFD checks how a path is watched.
func readBFD(s spot, shape *bfdShape) plan.BFD {
	if shape == nil {
		return plan.BFD{}
	}
	return plan.BFD{
		TransmitInterval: wholeMilliseconds(s.key("transmitInterval"), shape.TransmitInterval, minBFDInterval, maxBFDInterval),
		ReceiveInterval:  wholeMilliseconds(s.key("receiveInterval"), shape.ReceiveInterval, minBFDInterval, maxBFDInterval),
		DetectMultiplier: uint8(checkBetween(s.key("detectMultiplier"), shape.DetectMultiplier, 2, 255)), //nolint:gosec // bounded
		MinimumTTL:       uint8(checkBetween(s.key("minimumTTL"), shape.MinimumTTL, 1, 255)),             //nolint:gosec // bounded
	}
}

// readFamilies reads a list of ipv4 and ipv6.
func readFamilies(s spot, texts []string) (v4, v6 bool) {
	checkOnce(s, texts, func(item spot, text string) bool {
		if text != "ipv4" && text != "ipv6" {
			item.fail("write ipv4 or ipv6", "%q is not a family", text)
			return false
		}
		return true
	})
	if s.given() && len(texts) == 0 {
		s.fail("leave it out for the address's own family", "a session of no family announces nothing")
	}
	return slices.Contains(texts, "ipv4"), slices.Contains(texts, "ipv6")
}
