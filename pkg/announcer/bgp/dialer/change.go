package dialer

import (
	"net"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// Set makes c the session. It reports whether the session that was there has ended: what is not
// negotiated changes while it goes on. A router that keeps routes over a restart hears nothing,
// and keeps them until the new session, unless that asks for nothing like it or has other
// families: what a router keeps of one that is gone (RFC 4724 section 4.2) is no restart but an
// end. BIRD 2.0 does not get over it, and refuses every later session.
func (d *Dialer) Set(c Config) (ended bool) {
	d.mu.Lock()
	before, current := d.config, d.current
	d.config = c
	d.mu.Unlock()
	if current == nil {
		return false
	}
	if before.negotiated() == c.negotiated() {
		current.adjust(c)
		return false
	}
	switch {
	case before.Router != c.Router || before.PeerASN != c.PeerASN || before.Open.ASN != c.Open.ASN:
		current.end(End{}, &Notification{Code: codeCease, Subcode: ceaseRemoved})
	case before.Open.Families != c.Open.Families:
		current.end(End{}, current.withdrawalOf(&Notification{Code: codeCease, Subcode: ceaseConfigured}))
	case current.keepsRoutes() && c.Open.GracefulRestart.Offered:
		current.end(End{}, nil)
	default:
		current.end(End{}, &Notification{Code: codeCease, Subcode: ceaseConfigured})
	}
	return true
}

// Remove ends the session for good: the router drops the routes. Run has to be ended after it.
func (d *Dialer) Remove() {
	if r := d.relay(); r != nil {
		r.end(End{}, &Notification{Code: codeCease, Subcode: ceaseRemoved})
	}
}

// Fail ends an established session because the path to the router failed (RFC 9384), and reports
// whether there was one. One that is not established finds out by itself.
func (d *Dialer) Fail(message string) bool {
	r := d.relay()
	if r == nil || d.State().Phase != plan.BGPEstablished {
		return false
	}
	r.end(End{reason.BFDDown, message}, &Notification{Code: codeCease, Subcode: ceaseBFDDown})
	return true
}

func (d *Dialer) relay() *relay {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// end ends the session for the reason given, with a NOTIFICATION unless it is nil.
func (r *relay) end(why End, n *Notification) {
	r.dialer.mu.Lock()
	if r.dialer.current == r && r.dialer.end == nil {
		r.dialer.end = &why
	}
	r.dialer.mu.Unlock()
	if n != nil {
		r.refuse(n)
	}
	r.cancel()
}

// keepsRoutes reports whether the router keeps the routes of a connection that just ends.
func (r *relay) keepsRoutes() bool {
	r.in.Lock()
	defer r.in.Unlock()
	return r.config.keepsRoutes(r.router)
}

// withdrawalOf returns the NOTIFICATION of n's kind by which the router keeps no routes.
func (r *relay) withdrawalOf(n *Notification) *Notification {
	r.in.Lock()
	defer r.in.Unlock()
	if r.config.knowsHardReset(r.router) {
		return n.hard()
	}
	return n
}

// adjust changes what is not negotiated.
func (r *relay) adjust(c Config) {
	if conn, ok := r.connection().(*net.TCPConn); ok {
		_ = resetTTL(conn, c) // What cannot be set now is with the next connection.
	}
}
