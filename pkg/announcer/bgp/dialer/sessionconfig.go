package dialer

import (
	"net/netip"
	"time"
)

// Config is a session to a router. Two that are equal are the same session.
type Config struct {
	// Router is where to connect, with its zone where it is link-local.
	Router netip.AddrPort
	// Source is the node's address to connect from, with its zone where it is link-local; the
	// zero Addr leaves that to the kernel.
	Source netip.Addr
	// Interface is the one to leave by; "" leaves that to the kernel.
	Interface string
	// Password is that of TCP MD5 signatures (RFC 2385), or "".
	Password string
	// TTL is that of packets to the router, 0 the kernel's own, and MinimumTTL the least that
	// packets of the router may arrive with (RFC 5082), 0 any.
	TTL, MinimumTTL uint8
	// ConnectRetry is the time between two attempts to connect (RFC 4271 section 8.2.2).
	ConnectRetry time.Duration
	// Keepalive is how often the router hears of the node, or a third of the hold time that is
	// negotiated, if that is less.
	Keepalive time.Duration
	// PeerASN is the router's.
	PeerASN uint32
	// Open is what the node offers.
	Open Open
	// WithoutHoldTime allows a hold time of 0, where something else finds that the router is gone.
	WithoutHoldTime bool
}

// negotiated returns what makes c another session to the same router: what is said in OPEN, and
// how the connection comes about.
func (c Config) negotiated() Config {
	c.TTL, c.MinimumTTL, c.ConnectRetry, c.Keepalive, c.WithoutHoldTime = 0, 0, 0, 0, false
	return c
}

// accept checks the OPEN of the router (RFC 4271 section 6.2, RFC 6286 section 2.2).
func (c Config) accept(o Open) *Notification {
	switch {
	case o.ASN != c.PeerASN:
		return &Notification{Code: codeOpen, Subcode: openPeerAS}
	case c.PeerASN == c.Open.ASN && o.Identifier == c.Open.Identifier:
		return &Notification{Code: codeOpen, Subcode: openIdentifier}
	case o.HoldTime == 0 && !c.WithoutHoldTime:
		return &Notification{Code: codeOpen, Subcode: openHoldTime}
	}
	return nil
}

// holdTime returns what is negotiated with a router that offered o, in seconds; 0 is none
// (RFC 4271 section 4.2).
func (c Config) holdTime(o Open) uint16 { return min(c.Open.HoldTime, o.HoldTime) }

// longHoldTime is what gobgp gets where none is negotiated: it closes such a session at its first
// message.
const longHoldTime = 1<<16 - 1

// forGobgp returns the OPEN that gobgp reads in place of that of the router. It has nothing that
// the node did not offer.
func (c Config) forGobgp(o Open) Open {
	out := Open{
		ASN: o.ASN, HoldTime: c.holdTime(o), Identifier: o.Identifier,
		MultiProtocol: true, Families: o.Takes().and(c.Open.Families),
		FourOctet: o.FourOctet, RouteRefresh: o.RouteRefresh,
	}
	if out.HoldTime == 0 {
		out.HoldTime = longHoldTime
	}
	if c.Open.GracefulRestart.Offered && o.GracefulRestart.Offered {
		// It makes gobgp send End-of-RIB. Whether the router has restarted does not matter to a
		// node that keeps none of its routes.
		out.GracefulRestart = GracefulRestart{Offered: true, Time: o.GracefulRestart.Time, Families: out.Families}
	}
	return out
}

// keepsRoutes reports whether the router keeps the routes of a connection that just ends
// (RFC 4724 section 4.2).
func (c Config) keepsRoutes(o Open) bool {
	return c.Open.GracefulRestart.Offered && o.GracefulRestart.Offered
}

// knowsHardReset reports whether both sides set the N bit (RFC 8538 section 2): only then is a
// NOTIFICATION no end of the routes, and a Hard Reset known.
func (c Config) knowsHardReset(o Open) bool {
	return c.keepsRoutes(o) && c.Open.GracefulRestart.Notification && o.GracefulRestart.Notification
}

// outgoing returns what the router is sent in place of n.
func (c Config) outgoing(n *Notification, o Open) *Notification {
	if n.withdraws() && c.knowsHardReset(o) {
		return n.hard()
	}
	return n
}
