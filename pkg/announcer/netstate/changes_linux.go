package netstate

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// tablesOf returns what a datagram of netlink messages is about, by the first one's type:
// the kernel sends each notification by itself.
func tablesOf(datagram []byte) classes {
	if len(datagram) < unix.NLMSG_HDRLEN {
		return classes{}
	}
	switch binary.NativeEndian.Uint16(datagram[4:6]) {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return classes{links: true}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return classes{addresses: true}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return classes{routes: true}
	}
	return classes{}
}

// byOthers reports whether machines on the LAN can have caused a datagram of netlink messages, by
// router advertisements: the routes that the kernel makes of them, and addresses that expire.
func byOthers(datagram []byte) bool {
	const header, flags, protocol = unix.NLMSG_HDRLEN, 2, 5
	if len(datagram) < header+unix.SizeofRtMsg || datagram[header] != unix.AF_INET6 {
		return false
	}
	switch message := datagram[header:]; binary.NativeEndian.Uint16(datagram[4:6]) {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return message[flags]&unix.IFA_F_PERMANENT == 0
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return message[protocol] == unix.RTPROT_RA || message[protocol] == unix.RTPROT_KERNEL
	}
	return false
}

// dirty collects what has to be read again. The kernel tells of no IPv4 route that goes
// with its interface or address, so that routes are read again with those.
type dirty struct {
	wake chan struct{} // of one
	// others bounds how often that is read which others can have caused.
	others *rate.Limiter

	mu      sync.Mutex
	pending classes
	// urgent reports whether some of it was not caused by others.
	urgent bool
}

func newDirty() *dirty {
	return &dirty{wake: make(chan struct{}, 1), others: rate.NewLimiter(othersRate, othersBurst)}
}

func (d *dirty) addClasses(c classes, byOthers bool) {
	if !c.hasAny() {
		return
	}
	c.routes = true
	d.mu.Lock()
	d.pending = d.pending.orClasses(c)
	d.urgent = d.urgent || !byOthers
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// awaitDirty waits until there is something to read, and reports whether ctx goes on.
func (d *dirty) awaitDirty(ctx context.Context) bool {
	var due <-chan time.Time // Nothing ever comes from it while it is nil.
	for {
		select {
		case <-ctx.Done():
			return false
		case <-d.wake:
		case <-due:
			due = nil
		}
		d.mu.Lock()
		some, urgent := d.pending.hasAny(), d.urgent
		d.mu.Unlock()
		if urgent || some && d.others.Allow() {
			return true
		}
		if some && due == nil {
			due = time.After(time.Second / othersRate)
		}
	}
}

func (d *dirty) takeClasses() classes {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := d.pending
	d.pending, d.urgent = classes{}, false
	return taken
}
