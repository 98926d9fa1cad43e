package dialer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// fromRouter reads what the router sends, and tells gobgp the little of it that matters.
func (r *relay) fromRouter() End {
	in := bufio.NewReaderSize(&paced{Reader: r.connection()}, buffer)
	for {
		f, err := readFrame(in)
		if bad, ok := errors.AsType[*Notification](err); ok {
			return r.misbehaved(bad, "")
		}
		if err != nil {
			return r.hungUp(err)
		}
		if end, over := r.hear(f, time.Now()); over {
			return end
		}
	}
}

// hungUp returns the end of a connection that could no longer be read.
func (r *relay) hungUp(err error) End {
	if r.ctx.Err() != nil {
		return End{}
	}
	r.in.Lock()
	defer r.in.Unlock()
	switch {
	case r.phase != plan.BGPEstablished:
		return End{reason.PeerClosed, "the router closed the connection"}
	case errors.Is(err, io.EOF):
		return End{reason.PeerClosed, "the connection was closed"}
	}
	return closed(err)
}

// misbehaved ends the session because of what the router sent.
func (r *relay) misbehaved(n *Notification, cure string) End {
	r.refuse(n)
	r.in.Lock()
	_ = r.tell((&Notification{Code: codeCease}).frame()) // The session ends in any case.
	r.in.Unlock()
	return End{reason.NotificationSent, "the router is not what it should be: " + n.String() + cure}
}

// hear takes one message. It reports whether it was the last one.
func (r *relay) hear(f frame, now time.Time) (End, bool) {
	r.in.Lock()
	phase := r.phase
	r.in.Unlock()
	switch k := f.kind(); {
	case k == kindNotification:
		n := parseNotification(f.body())
		r.in.Lock()
		defer r.in.Unlock()
		_ = r.tell(n.plain().frame()) // The session ends in any case.
		return End{reason.NotificationReceived, "the router ended the session: " + n.String()}, true
	case phase == plan.BGPOpenSent && k == kindOpen:
		return r.opened(f, now)
	case phase == plan.BGPOpenConfirm && k == kindKeepalive:
		return r.established(now)
	case phase == plan.BGPEstablished && k != kindOpen:
		return r.listen(f, now)
	}
	subcodes := map[plan.BGPState]uint8{plan.BGPOpenSent: 1, plan.BGPOpenConfirm: 2, plan.BGPEstablished: 3} // RFC 6608
	return r.misbehaved(&Notification{Code: codeState, Subcode: subcodes[phase], Data: []byte{byte(f.kind())}}, ""), true
}

// opened takes the OPEN of the router.
func (r *relay) opened(f frame, now time.Time) (End, bool) {
	o, bad := parseOpen(f.body())
	if bad == nil {
		bad = r.dialer.settings().accept(o)
	}
	if bad != nil {
		return r.misbehaved(bad, cureOf(bad, o, r.config)), true
	}
	r.deadline.Lock()
	if hold := r.config.holdTime(o); hold > 0 {
		r.timeout = time.Duration(hold) * time.Second
	}
	r.deadline.Unlock()
	r.in.Lock()
	r.router = o
	err := r.tell(r.config.forGobgp(o).frame())
	r.in.Unlock()
	if err != nil {
		return End{}, true
	}
	r.setPhase(plan.BGPOpenConfirm)
	return End{}, false
}

// cureOf says more about an OPEN that was refused.
func cureOf(n *Notification, o Open, c Config) string {
	switch {
	case n.Subcode == openPeerAS && o.ASN != 0:
		return fmt.Sprintf(": its AS is %d, and peerASN %d", o.ASN, c.PeerASN)
	case n.Subcode == openHoldTime && o.ASN != 0:
		return ": it asks for a hold time of 0, so that neither side would find out that the other is gone; give the router a hold time, or the peer bfd"
	}
	return ""
}

// established takes the KEEPALIVE that ends the beginning. gobgp reads it first: from then
// on it sends KEEPALIVEs.
func (r *relay) established(now time.Time) (End, bool) {
	r.in.Lock()
	err := r.tellAlive(now)
	r.in.Unlock()
	if err != nil {
		return End{}, true
	}
	r.setPhase(plan.BGPEstablished)
	return End{}, false
}

// listen takes a message of an established session.
func (r *relay) listen(f frame, now time.Time) (End, bool) {
	r.in.Lock()
	defer r.in.Unlock()
	var err error
	switch f.kind() {
	case kindUpdate:
		err = r.update(f.body())
	case kindRefresh:
		r.waiting = r.waiting.or(parseRefresh(f.body()).and(r.config.Open.Families))
		err = r.tellRefresh(now)
	}
	if err == nil && now.Sub(r.alive) >= aliveInterval {
		err = r.tellAlive(now)
	}
	return End{}, err != nil
}

// update counts what an UPDATE has, and passes on the first End-of-RIB of each family. The
// caller holds in.
func (r *relay) update(body []byte) error {
	c, ok := countUpdate(body)
	if !ok {
		return nil // It is not used.
	}
	r.dialer.received.Add(uint64(c.announced)) //nolint:gosec // At most some thousand.
	end := c.end.and(r.config.Open.Families)
	if end == (Families{}) || r.ended.has(end) {
		return nil
	}
	r.ended = r.ended.or(end)
	return r.tell(endOfRIB(end))
}

// tellAlive lets gobgp know that the router is there. The caller holds in.
func (r *relay) tellAlive(now time.Time) error {
	r.alive = now
	return r.tell(keepalive())
}

// tellRefresh makes gobgp send all routes of the families that the router asked for, unless it
// has just done so. The caller holds in.
func (r *relay) tellRefresh(now time.Time) error {
	for i, f := range (Families{IPv4: true, IPv6: true}).each() {
		if !r.waiting.has(f) || !r.asked[i].IsZero() && now.Sub(r.asked[i]) < refreshInterval {
			continue
		}
		r.asked[i] = now
		if err := r.tell(refresh(f)); err != nil {
			return err
		}
		r.waiting = Families{r.waiting.IPv4 && !f.IPv4, r.waiting.IPv6 && !f.IPv6}
	}
	return nil
}
