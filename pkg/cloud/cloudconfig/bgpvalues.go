package cloudconfig

import (
	"math"
	"net/netip"
	"regexp"
	"time"

	"gopkg.in/yaml.v3"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
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

// peerName reads a name that no peer before has.
func (r peerReader) peerName(n *yaml.Node, path string) string {
	name := r.name(n, path)
	if first := r.named[name]; first != nil && name != "" {
		r.fail(n, path, "", "another peer has the name %q, at %d:%d", name, first.Line, first.Column)
		return ""
	}
	r.named[name] = n
	return name
}

// gateways are the words for a node's default gateway of each family, and how a peer's address
// says so.
var gateways = map[string]netip.Addr{"gateway": netip.IPv4Unspecified(), "gateway-v6": netip.IPv6Unspecified()}

// routerAddress reads the address of a router, a word for the node's default gateway, or a
// template.
func (w *walker) routerAddress(n *yaml.Node, path string) (netip.Addr, template) {
	if isTemplate(n) {
		return netip.Addr{}, w.template(n, path)
	}
	if gateway, ok := gateways[n.Value]; ok && n.Kind == yaml.ScalarNode {
		return gateway, ""
	}
	return w.unicast(n, path), ""
}

// peerASN reads the AS number of a router, or a template.
func (w *walker) peerASN(n *yaml.Node, path string) (uint32, template) {
	if isTemplate(n) {
		return 0, w.template(n, path)
	}
	return w.asn(n, path), ""
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

// unicast reads an address that a machine on a network can have.
func (w *walker) unicast(n *yaml.Node, path string) netip.Addr {
	s, ok := w.text(n, path)
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		w.fail(n, path, "write one address, without a prefix length", "%q is not an address", s)
		return netip.Addr{}
	}
	if why, cure := unusable(a); why != "" {
		w.fail(n, path, cure, "%s %s", a, why)
		return netip.Addr{}
	}
	return a
}

// unusable says why a is no address that a machine on a network can have, with a cure if one
// is known; or "".
func unusable(a netip.Addr) (why, cure string) {
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

// asn reads the number of an autonomous system that may be used.
func (w *walker) asn(n *yaml.Node, path string) uint32 {
	before := len(w.problems)
	i := w.integer(n, path, 1, math.MaxUint32-1)
	if len(w.problems) == before && !assignable(uint64(i)) { //nolint:gosec // bounded
		w.fail(n, path, "", "%d is reserved and no AS's number", i)
		return 0
	}
	return uint32(i) //nolint:gosec // bounded
}

// assignable says that an autonomous system can have the number (RFC 7607, RFC 6793 section 9,
// RFC 7300).
func assignable(i uint64) bool {
	return i != 0 && i != 23456 && i != math.MaxUint16 && i < math.MaxUint32
}

// seconds reads a duration of whole seconds.
func (w *walker) seconds(n *yaml.Node, path string, least, most time.Duration) time.Duration {
	before := len(w.problems)
	d := w.duration(n, path)
	switch {
	case len(w.problems) > before:
	case d < least || d > most:
		w.fail(n, path, "", "%s is not between %s and %s", d, least, most)
	case d%time.Second != 0:
		w.fail(n, path, "write "+d.Round(time.Second).String(), "%s is no whole number of seconds, which is what BGP can say", d)
	default:
		return d
	}
	return 0
}

// interfaceName reads the name of one interface.
func (w *walker) interfaceName(n *yaml.Node, path string) string {
	s := w.interfaceSelector(n, path)
	if len(s) > 0 && (s[0] == '/' || len(s) > maxInterfaceName) {
		w.fail(n, path, "write the name of one interface", "%q may be several", s)
	}
	return s
}

func (w *walker) routerID(n *yaml.Node, path string) netip.Addr {
	s, ok := w.text(n, path)
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() || a.IsUnspecified() {
		w.fail(n, path, "write it like an IPv4 address, and not 0.0.0.0", "%q is no BGP Identifier", s)
		return netip.Addr{}
	}
	return a
}

// secretKey is what a key of a Secret may be, which becomes a file's name.
var secretKey = regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)

func (w *walker) fileName(n *yaml.Node, path string) string {
	s, ok := w.text(n, path)
	if ok && (!secretKey.MatchString(s) || s == "." || s == "..") {
		w.fail(n, path, "write the key in the Secret baremetal-bgp-passwords that has the password", "%q is no name of a file", s)
		return ""
	}
	return s
}

func (w *walker) gracefulRestart(n *yaml.Node, path string) time.Duration {
	restart := defaultRestartTime
	w.object(n, path, map[string]reader{
		"restartTime": func(v *yaml.Node, at string) { restart = w.seconds(v, at, minRestartTime, maxRestartTime) },
	})
	return restart
}

// bfd reads how a path is watched.
func (w *walker) bfd(n *yaml.Node, path string) announcement.BFD {
	b := defaultBFD()
	w.object(n, path, map[string]reader{
		"transmitInterval": func(v *yaml.Node, at string) {
			b.TransmitInterval = w.milliseconds(v, at, minBFDInterval, maxBFDInterval)
		},
		"receiveInterval": func(v *yaml.Node, at string) {
			b.ReceiveInterval = w.milliseconds(v, at, minBFDInterval, maxBFDInterval)
		},
		"detectMultiplier": func(v *yaml.Node, at string) { b.DetectMultiplier = uint8(w.integer(v, at, 2, 255)) }, //nolint:gosec // bounded
		"minimumTTL":       func(v *yaml.Node, at string) { b.MinimumTTL = uint8(w.integer(v, at, 1, 255)) },       //nolint:gosec // bounded
	})
	return b
}

// milliseconds reads a duration of whole milliseconds.
func (w *walker) milliseconds(n *yaml.Node, path string, least, most time.Duration) time.Duration {
	before := len(w.problems)
	d := w.durationBetween(n, path, least, most)
	if len(w.problems) == before && d%time.Millisecond != 0 {
		w.fail(n, path, "write "+d.Round(time.Millisecond).String(), "%s is no whole number of milliseconds, which is what routers are configured in", d)
	}
	return d
}

// families reads a list of ipv4 and ipv6.
func (w *walker) families(n *yaml.Node, path string) (v4, v6 bool) {
	w.list(n, path, func(v *yaml.Node, at string) {
		s, ok := w.text(v, at)
		switch {
		case !ok:
		case s == "ipv4" && !v4:
			v4 = true
		case s == "ipv6" && !v6:
			v6 = true
		case s == "ipv4" || s == "ipv6":
			w.fail(v, at, "remove one of the two", "%q is listed twice", s)
		default:
			w.fail(v, at, "write ipv4 or ipv6", "%q is not a family", s)
		}
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		w.fail(n, path, "leave it out for the address's own family", "a session of no family announces nothing")
	}
	return v4, v6
}
