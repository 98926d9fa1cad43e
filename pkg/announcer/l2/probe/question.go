// Package probe asks a segment whether a machine answers for an address, as RFC 5227 section
// 2.1.1 and RFC 4862 section 5.4 do before an address is used. Packages arp and ndp know the
// frames; this one has the sockets and the time.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"

	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

const (
	// times is how often is asked (RFC 5227 section 1.1, PROBE_NUM).
	times = 3

	// Quick is a pause between two times for a machine that is known to answer at once, if it
	// is there. It is shorter than what the RFCs ask of a host that is about to use an address.
	Quick = 40 * time.Millisecond
	// Patient is a pause for any machine (RFC 5227 section 1.1, PROBE_MIN; RFC 4861 section
	// 10, RETRANS_TIMER).
	Patient = time.Second

	// heldUp is for how long no frame may leave before asking is given up, and stretch how many
	// frames leave between two looks at the clock.
	heldUp  = time.Second
	stretch = 16

	maxFrame = 2048
	// maxHolders is how many machines with one address are reported; one is too many already.
	maxHolders = 4
)

// Duration returns how long asking takes altogether with that pause.
func Duration(pause time.Duration) time.Duration { return times * pause }

// Holder is a machine that has an address.
type Holder struct {
	Address netip.Addr
	// MAC is its hardware address, and Interface where it answered.
	MAC, Interface string
}

// Protocol is address resolution of one family.
type Protocol interface {
	// EtherType is what frames of the protocol carry.
	EtherType() int
	// Probe returns the frame that asks from mac whether a machine has address.
	Probe(mac net.HardwareAddr, address netip.Addr) []byte
	// HolderFilter returns a program that accepts at least the frames in which a machine shows
	// that it has one of addresses.
	HolderFilter(addresses responder.Addresses) []bpf.Instruction
	// Holder returns which address the sender of frame shows to have, and its hardware
	// address; false if none.
	Holder(frame []byte) (netip.Addr, net.HardwareAddr, bool)
}

// Claim says whether frame shows that another machine has one of port's addresses, which it
// answers by responder.Conflict.
func Claim(p Protocol, frame []byte, port *responder.Port) responder.Outcome {
	switch address, mac, ok := p.Holder(frame); {
	case !ok:
		return responder.Malformed
	case !port.Has(address):
		return responder.NotOurs
	case port.Own(mac):
		return responder.OwnFrame
	}
	return responder.Conflict
}

// Question is addresses that are about to be asked for.
type Question struct {
	protocol Protocol
	asked    []*asked
}

type asked struct {
	port *responder.Port
	conn responder.Conn
}

// New opens a socket for each port, in the calling thread's network namespace, to ask there
// for its addresses. If listen is nil it is responder.Listen.
func New(protocol Protocol, listen responder.ListenFunc, ports []*responder.Port) (*Question, error) {
	if listen == nil {
		listen = responder.Listen
	}
	q := &Question{protocol: protocol}
	for _, port := range ports {
		filter, err := bpf.Assemble(append(responder.Prelude(port.Index), protocol.HolderFilter(port.Addresses)...))
		if err == nil {
			var conn responder.Conn
			if conn, err = listen(port, protocol.EtherType(), filter); err == nil {
				q.asked = append(q.asked, &asked{port, conn})
				continue
			}
		}
		q.closeSockets()
		return nil, fmt.Errorf("ask on %s: %w", port.Name, err)
	}
	return q, nil
}

// Run asks with that pause, and returns after Duration which machines but this one have the
// addresses, each once. Where it is held up it takes that much longer: a machine has its time to
// answer from when it was asked last. An error reports that some could not be asked for
// everywhere, or that ctx ended.
func (q *Question) Run(ctx context.Context, pause time.Duration) ([]Holder, error) {
	defer q.closeSockets()
	found := make(chan []Holder)
	for _, a := range q.asked {
		go func() { found <- a.collectHolders(q.protocol) }()
	}
	failures := []error{q.sendQuestions(ctx, pause)}
	last := pause
	if ctx.Err() != nil {
		last = 0
	}
	for _, a := range q.asked {
		if err := a.conn.SetDeadline(time.Now().Add(last)); err != nil {
			failures = append(failures, err, a.conn.Close())
		}
	}
	stop := context.AfterFunc(ctx, func() {
		for _, a := range q.asked {
			_ = a.conn.SetDeadline(time.Now())
		}
	})
	defer stop()
	var all []Holder
	for range q.asked {
		all = append(all, <-found...)
	}
	return all, errors.Join(append(failures, ctx.Err())...)
}

// sendQuestions sends the questions.
func (q *Question) sendQuestions(ctx context.Context, pause time.Duration) error {
	again := time.NewTicker(pause)
	defer again.Stop()
	var failures []error
	for n := range times {
		if n > 0 {
			select {
			case <-again.C:
			case <-ctx.Done():
				return errors.Join(failures...)
			}
		}
		for _, a := range q.asked {
			failures = append(failures, a.sendProbes(ctx, q.protocol))
		}
	}
	return errors.Join(failures...)
}

// sendProbes asks for each address once, which takes its time where there are thousands. One frame
// that cannot be sent is no reason not to send the others; the error is the first.
func (a *asked) sendProbes(ctx context.Context, p Protocol) error {
	var first error
	left := 0
	for item := range a.port.Addresses.All() {
		if left--; left < 0 {
			left = stretch
			if ctx.Err() != nil {
				return first // Run says so.
			}
			if err := a.conn.SetWriteDeadline(time.Now().Add(heldUp)); err != nil {
				return fmt.Errorf("ask on %s: %w", a.port.Name, err)
			}
		}
		address := item.At()
		frame := p.Probe(a.port.MAC, address)
		if frame == nil {
			return fmt.Errorf("%s cannot be asked for", address)
		}
		if _, err := a.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])}); err != nil && first == nil {
			first = fmt.Errorf("ask on %s: %w", a.port.Name, err)
		}
	}
	return first
}

// collectHolders returns which other machines have the port's addresses, once the time is over.
func (a *asked) collectHolders(p Protocol) []Holder {
	var found []Holder
	seen, holders := map[Holder]bool{}, map[netip.Addr]int{}
	buffer := make([]byte, maxFrame)
	for {
		n, _, err := a.conn.ReadFrom(buffer)
		if err != nil {
			return found
		}
		address, mac, ok := p.Holder(buffer[:n])
		if !ok || !a.port.Has(address) || a.port.Own(mac) {
			continue
		}
		h := Holder{address, mac.String(), a.port.Name}
		if !seen[h] && holders[address] < maxHolders {
			seen[h] = true
			holders[address]++
			found = append(found, h)
		}
	}
}

func (q *Question) closeSockets() {
	for _, a := range q.asked {
		_ = a.conn.Close()
	}
}
