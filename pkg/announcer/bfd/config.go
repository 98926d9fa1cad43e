package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

// The vocabulary of sessions is package protocol's.
type (
	State      = protocol.State
	Diagnostic = protocol.Diagnostic
	Auth       = protocol.Auth
)

const (
	AdminDown = protocol.AdminDown
	Down      = protocol.Down
	Init      = protocol.Init
	Up        = protocol.Up

	DetectionTimeExpired = protocol.DetectionTimeExpired
	NeighborSignaledDown = protocol.NeighborSignaledDown

	KeyedSHA1           = protocol.KeyedSHA1
	MeticulousKeyedSHA1 = protocol.MeticulousKeyedSHA1
)

// The bounds of intervals: what a process can keep, and what a packet can say.
const (
	MinInterval = 10 * time.Millisecond
	MaxInterval = time.Hour
)

// Key is what tells sessions apart.
type Key struct {
	// Peer is the other system's address, without a zone.
	Peer netip.Addr
	// Local is the address that packets are sent from and to; invalid for the one that the
	// route to the peer has whenever the session begins to come up.
	Local netip.Addr
	// Interface is the name of the one that packets go through and come from; empty for that
	// of the route. A link-local peer needs one, a multihop session has none.
	Interface string
	// Multihop reports whether there are routers between the two (RFC 5883).
	Multihop bool
}

// Name is how people know the session. It is no String method: those that embed a Key would
// be printed as nothing else.
func (k Key) Name() string {
	text := k.Peer.String()
	if k.Interface != "" {
		text += "%" + k.Interface
	}
	if k.Local.IsValid() {
		text += " from " + k.Local.String()
	}
	if k.Multihop {
		text += " multihop"
	}
	return text
}

// SessionConfig is a session that there should be.
type SessionConfig struct {
	Key
	// MinimumTTL is the least TTL or hop limit that a packet of a multihop session may arrive
	// with; 0 allows all. Packets of other sessions must arrive with 255 (RFC 5881 §5).
	MinimumTTL uint8
	// TransmitInterval and ReceiveInterval are the least time between two packets that we
	// would like to send and that we are able to receive; of each pair of ours and the peer's
	// the longer one holds.
	TransmitInterval, ReceiveInterval time.Duration
	// DetectMultiplier is how many packets in a row the peer must miss to call us gone. After
	// how long we call the peer gone depends on its own multiplier.
	DetectMultiplier uint8
	// Auth, if not nil, is how packets are authenticated.
	Auth *Auth
}

// normalized returns c with its addresses as they are compared.
func (c SessionConfig) normalized() SessionConfig {
	if c.Interface == "" {
		c.Interface = c.Peer.Zone()
	}
	c.Peer, c.Local = c.Peer.Unmap().WithZone(""), c.Local.Unmap().WithZone("")
	return c
}

// checkConfig says what of a normal c cannot work.
func (c SessionConfig) checkConfig() error {
	var all []error
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			all = append(all, fmt.Errorf(format, args...))
		}
	}
	refuse(!c.Peer.IsValid() || c.Peer.IsUnspecified() || c.Peer.IsMulticast(), "the peer is no address of one system")
	refuse(c.Local.IsValid() && c.Local.Is4() != c.Peer.Is4(), "local address %s is of another family", c.Local)
	refuse(c.Local.IsValid() && c.Local.Is4() == c.Peer.Is4() && !sameScope(c.Local, c.Peer), "of the peer and local address %s only one is link-local", c.Local)
	refuse(c.Multihop && c.Interface != "", "multihop, and bound to interface %s", c.Interface)
	refuse(c.Multihop && c.Peer.IsLinkLocalUnicast(), "multihop to a link-local address")
	refuse(!c.Multihop && c.Peer.Is6() && c.Peer.IsLinkLocalUnicast() && c.Interface == "", "link-local, and no interface given")
	refuse(!c.Multihop && c.MinimumTTL != 0 && c.MinimumTTL != singleHopTTL, "minimum TTL %d: over a single hop it is always %d", c.MinimumTTL, singleHopTTL)
	bound := func(name string, interval time.Duration) {
		refuse(interval < MinInterval || interval > MaxInterval, "%s interval %s is not between %s and %s", name, interval, MinInterval, MaxInterval)
	}
	bound("transmit", c.TransmitInterval)
	bound("receive", c.ReceiveInterval)
	refuse(c.DetectMultiplier == 0, "detect multiplier 0")
	if c.Auth != nil {
		all = append(all, c.Auth.Check())
	}
	if err := errors.Join(all...); err != nil {
		return fmt.Errorf("BFD session with %s: %w", c.Name(), err)
	}
	return nil
}

// protocolConfig returns what the state machine has to know of c.
func (c SessionConfig) protocolConfig() protocol.Config {
	p := protocol.Config{DesiredMinTx: c.TransmitInterval, RequiredMinRx: c.ReceiveInterval, DetectMultiplier: c.DetectMultiplier}
	if c.Auth != nil {
		p.Auth = *c.Auth
	}
	return p
}
