package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// wireBuffer is room for the frames of a takeover of a thousand addresses, which come
// faster than they are read.
const wireBuffer = 16 << 20

// wire hears at the client host who has which address, and asks.
type wire struct {
	conn *packet.Conn
	mac  net.HardwareAddr
	self netip.Addr

	mu sync.Mutex
	// but is a MAC that does not count, and first is when each address was first heard of
	// since hearing began anew, and from whom. Both are guarded by mu.
	but   string
	first map[netip.Addr]heard
}

// heard is a frame in which somebody says that he has an address.
type heard struct {
	at  time.Time
	mac string
}

// listen opens a wire. Its end is that of f.
func (l *lab) listen(ctx context.Context, f func(context.Context, *wire) error) error {
	client := l.cluster.Layout().Client
	conn, mac, err := testbed.Listen(client, "eth0", ethernet.EtherTypeARP)
	if err != nil {
		return err
	}
	w := &wire{conn: conn, mac: mac, self: client.LAN.V4}
	if err := w.widen(); err != nil {
		return errors.Join(err, w.conn.Close())
	}
	w.anew("")
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.read()
	}()
	err = f(ctx, w)
	err = errors.Join(err, w.conn.Close())
	<-done
	return err
}

// widen gives the socket its buffer, whatever the machine's limit for others is.
func (w *wire) widen() error {
	raw, err := w.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, wireBuffer)
	})
	return errors.Join(err, failed)
}

// read takes note of frames until the socket is closed.
func (w *wire) read() {
	buffer := make([]byte, 1<<12)
	for {
		n, _, err := w.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		var frame ethernet.Frame
		var p arp.Packet
		if frame.UnmarshalBinary(buffer[:n]) != nil || p.UnmarshalBinary(frame.Payload) != nil {
			continue
		}
		// Who asks for somebody else says nothing but his own address.
		if p.Operation == arp.OperationReply || p.SenderIP == p.TargetIP {
			w.hear(p.SenderIP, p.SenderHardwareAddr.String(), time.Now())
		}
	}
}

func (w *wire) hear(address netip.Addr, mac string, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.first[address]; !known && mac != w.but {
		w.first[address] = heard{now, mac}
	}
}

// anew forgets what was heard; from now on everybody counts but one MAC.
func (w *wire) anew(but string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.but, w.first = but, map[netip.Addr]heard{}
}

// all returns what was heard first of each address, once all of them were heard of.
func (w *wire) all(ctx context.Context, addresses []netip.Addr) (map[netip.Addr]heard, error) {
	for {
		found, missing := w.found(addresses)
		if missing == 0 {
			return found, nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("%d of %d addresses were not heard of: %w", missing, len(addresses), context.Cause(ctx))
		}
	}
}

func (w *wire) found(addresses []netip.Addr) (found map[netip.Addr]heard, missing int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	found = map[netip.Addr]heard{}
	for _, a := range addresses {
		if h, ok := w.first[a]; ok {
			found[a] = h
		} else {
			missing++
		}
	}
	return found, missing
}

// owners asks who has the addresses and returns the MAC of each one's owner.
func (w *wire) owners(ctx context.Context, addresses []netip.Addr) (map[netip.Addr]string, error) {
	w.anew("")
	for {
		for _, a := range addresses {
			if err := w.ask(a); err != nil {
				return nil, err
			}
		}
		found, missing := w.found(addresses)
		for range 20 { // answers take their time
			if missing == 0 {
				break
			}
			if err := pause(ctx, 10*time.Millisecond); err != nil {
				return nil, fmt.Errorf("nobody answers for %d of %d addresses: %w", missing, len(addresses), context.Cause(ctx))
			}
			found, missing = w.found(addresses)
		}
		if missing > 0 {
			continue
		}
		out := map[netip.Addr]string{}
		for a, h := range found {
			out[a] = h.mac
		}
		return out, nil
	}
}

// ask broadcasts a request for one address.
func (w *wire) ask(address netip.Addr) error {
	frame, err := testbed.Question{Address: address}.Frame(w.mac, w.self)
	if err != nil {
		return err
	}
	return testbed.Send(w.conn, frame)
}
