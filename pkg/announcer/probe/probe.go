// Package probe asks a segment whether anybody answers for an address, as RFC 5227 section
// 2.1.1 and RFC 4862 section 5.4 do before an address is used. Packages arp and ndp know
// the frames; this one has the sockets and the time.
package probe

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"

	"baremetal.cloud/ccm/pkg/announcer/responder"
)

const (
	// times is how often is asked, interval the time between, and Duration how long it
	// takes altogether. They are shorter than what the RFCs ask of a host that has never
	// used the address: what is asked for here is a machine that is already known to answer.
	times    = 3
	interval = 40 * time.Millisecond
	Duration = times * interval

	maxFrame = 2048
)

// Protocol is address resolution of one family.
type Protocol interface {
	// EtherType is what frames of the protocol carry.
	EtherType() int
	// Probe returns the frame that asks from mac whether anybody has address.
	Probe(mac net.HardwareAddr, address netip.Addr) []byte
	// HolderFilter returns a program that accepts at least the frames in which somebody
	// shows to have one of addresses.
	HolderFilter(addresses responder.Addresses) []bpf.Instruction
	// Holder returns which address the sender of frame shows to have, and its hardware
	// address; false if none.
	Holder(frame []byte) (netip.Addr, net.HardwareAddr, bool)
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
		filter, err := bpf.Assemble(protocol.HolderFilter(port.Addresses))
		if err == nil {
			var conn responder.Conn
			if conn, err = listen(port, protocol.EtherType(), filter); err == nil {
				q.asked = append(q.asked, &asked{port, conn})
				continue
			}
		}
		q.close()
		return nil, fmt.Errorf("ask on %s: %w", port.Name, err)
	}
	return q, nil
}

// Run asks and returns, after Duration, the addresses for which another machine answered.
// Where it is held up it takes that much longer: whoever answers has his time from when he
// was asked last. An error says that some could not be asked for everywhere.
func (q *Question) Run() (map[netip.Addr]bool, error) {
	defer q.close()
	found := make(chan map[netip.Addr]bool)
	for _, a := range q.asked {
		go func() { found <- a.listen(q.protocol) }()
	}
	again := time.NewTicker(interval)
	defer again.Stop()
	var failures []error
	for n := range times {
		if n > 0 {
			<-again.C
		}
		for _, a := range q.asked {
			failures = append(failures, a.conn.SetWriteDeadline(time.Now().Add(Duration)), a.send(q.protocol))
		}
	}
	for _, a := range q.asked {
		if err := a.conn.SetDeadline(time.Now().Add(interval)); err != nil {
			failures = append(failures, err, a.conn.Close())
		}
	}
	all := map[netip.Addr]bool{}
	for range q.asked {
		for address := range <-found {
			all[address] = true
		}
	}
	return all, errors.Join(failures...)
}

func (a *asked) send(p Protocol) error {
	for item := range a.port.Addresses.All() {
		address := item.At()
		frame := p.Probe(a.port.MAC, address)
		if frame == nil {
			return fmt.Errorf("%s cannot be asked for", address)
		}
		if _, err := a.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])}); err != nil {
			return fmt.Errorf("ask on %s: %w", a.port.Name, err)
		}
	}
	return nil
}

// listen returns the port's addresses that others have, once the time is over.
func (a *asked) listen(p Protocol) map[netip.Addr]bool {
	found := map[netip.Addr]bool{}
	buffer := make([]byte, maxFrame)
	for {
		n, _, err := a.conn.ReadFrom(buffer)
		if err != nil {
			return found
		}
		if address, mac, ok := p.Holder(buffer[:n]); ok && a.port.Has(address) && !bytes.Equal(mac, a.port.MAC) {
			found[address] = true
		}
	}
}

func (q *Question) close() {
	for _, a := range q.asked {
		_ = a.conn.Close()
	}
}
