package dialer

import (
	"bufio"
	"time"

	"baremetal.cloud/ccm/pkg/reason"
)

// fromGobgp carries messages to the router. UPDATEs go as they are: the node's own routes are
// in them. Before the router is connected to, nothing comes but an end.
func (r *relay) fromGobgp() End {
	in := bufio.NewReaderSize(r.inner, buffer)
	if f, err := r.first(in); err != nil || f.kind() != kindOpen {
		return End{}
	}
	confirmed, sent := false, time.Time{}
	for {
		f, err := readFrame(in)
		if err != nil || r.connection() == nil {
			return End{}
		}
		switch f.kind() {
		case kindUpdate:
			err = r.send(f, in.Buffered() == 0)
		case kindKeepalive:
			now := time.Now()
			if confirmed && !r.due(now.Sub(sent)) {
				if in.Buffered() == 0 {
					err = r.flush()
				}
				break
			}
			confirmed, sent = true, now
			err = r.send(keepalive(), true)
		case kindNotification:
			return r.leave(parseNotification(f.body()))
		}
		if err != nil {
			return closed(err)
		}
	}
}

// first reads the OPEN. It says nothing that is not known.
func (r *relay) first(in *bufio.Reader) (frame, error) {
	if err := r.inner.SetReadDeadline(time.Now().Add(innerTimeout)); err != nil {
		return nil, err
	}
	f, err := readFrame(in)
	if err != nil {
		return nil, err
	}
	return f, r.inner.SetReadDeadline(time.Time{})
}

// flush makes the router read all that was written.
func (r *relay) flush() error {
	r.out.Lock()
	defer r.out.Unlock()
	if r.finished {
		return nil
	}
	return r.writer.Flush()
}

// due reports whether the router has to hear of the node again, that long after it last has.
// gobgp asks once a second. Without a hold time nothing is sent (RFC 4271 section 4.4).
func (r *relay) due(since time.Duration) bool {
	r.in.Lock()
	hold := time.Duration(r.config.holdTime(r.router)) * time.Second
	r.in.Unlock()
	interval := hold / 3
	if own := r.dialer.settings().Keepalive; own > 0 {
		interval = min(interval, own)
	}
	return hold > 0 && since >= interval-gobgpKeepalive/2
}

// gobgpKeepalive is how often gobgp sends a KEEPALIVE.
const gobgpKeepalive = time.Second

// leave ends the session because gobgp does.
func (r *relay) leave(n *Notification) End {
	r.refuse(n)
	switch {
	case n.Code == codeHoldTime:
		return End{reason.HoldTimerExpired, "nothing was heard within the hold time"}
	case n.Code == codeCease:
		return End{}
	}
	return End{reason.NotificationSent, "the router is not what it should be: " + n.String()}
}
