package responder

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/time/rate"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// maxFrame is the longest frame that is read whole; a longer one asks nothing.
	maxFrame = 2048
)

// frameSender is what is used of every packet socket, however it is read.
type frameSender interface {
	// Send sends a frame to where its Ethernet header says. It never waits: where there is no
	// room the error is EAGAIN or ENOBUFS.
	Send(frame []byte) error
	SetBPF(filter []bpf.RawInstruction) error
	Close() error
}

// Conn is a packet socket on one interface.
type Conn interface {
	frameSender
	ReadFrom(frame []byte) (int, net.Addr, error)
	WriteTo(frame []byte, to net.Addr) (int, error)
	SetDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// ListenFunc opens a packet socket on port's interface for frames with etherType that
// pass filter.
type ListenFunc func(port *Port, etherType int, filter []bpf.RawInstruction) (Conn, error)

// listenFunc is a ListenFunc or one whose socket the owner polls.
type listenFunc func(port *Port, etherType int, filter []bpf.RawInstruction) (frameSender, error)

// Listen is a ListenFunc: an AF_PACKET socket in the calling thread's network namespace, which is
// read at a bounded rate.
func Listen(port *Port, etherType int, filter []bpf.RawInstruction) (Conn, error) {
	return openConn(port, etherType, filter, frameRate)
}

// listenForClaims is Listen where few frames are enough.
func listenForClaims(port *Port, etherType int, filter []bpf.RawInstruction) (Conn, error) {
	return openConn(port, etherType, filter, claimFrameRate)
}

func openConn(port *Port, etherType int, filter []bpf.RawInstruction, perSecond rate.Limit) (Conn, error) {
	ifi := &net.Interface{Index: port.Index, Name: port.Name, HardwareAddr: port.MAC}
	conn, err := packet.Listen(ifi, packet.Raw, etherType, &packet.Config{Filter: filter})
	if err != nil {
		return nil, err
	}
	batch, err := newBatchConn(conn, perSecond)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return batch, nil
}

// socket is an open port. Its reader reads and closes conn; everything else is its
// owner's.
type socket struct {
	conn   frameSender
	groups *memberships
	filter *filter
	failed atomic.Bool
	// port is what is answered; nil once the socket is stopped.
	port atomic.Pointer[Port]
	// updated is the port that groups and filter were made for.
	updated *Port
}

func openPort(protocol Protocol, listen listenFunc, port *Port) (*socket, error) {
	s := &socket{groups: newMemberships(port.Index), updated: &Port{}}
	if err := s.joinGroups(protocol, port); err != nil {
		return nil, errors.Join(err, s.groups.closeGroups())
	}
	s.filter = &filter{protocol: protocol, index: port.Index, apply: func(program []bpf.RawInstruction) (err error) {
		s.conn, err = listen(port, protocol.EtherType(), program)
		return err
	}}
	if err := s.filter.setAddresses(port.Addresses); err != nil {
		return nil, errors.Join(fmt.Errorf("open packet socket: %w", err), s.groups.closeGroups())
	}
	s.filter.apply = s.conn.SetBPF
	s.updated = port
	s.port.Store(port)
	return s, nil
}

// narrowPort stops what wanted has no more. What it has besides comes by update.
func (s *socket) narrowPort(wanted *Port) {
	if now := s.port.Load(); !samePort(now, wanted) {
		s.port.Store(commonPort(now, wanted))
	}
}

// updatePort answers for all of port.
func (s *socket) updatePort(protocol Protocol, port *Port) error {
	if err := s.joinGroups(protocol, port); err != nil {
		return err
	}
	if err := s.filter.changeAddresses(s.updated.Addresses, port.Addresses); err != nil {
		return fmt.Errorf("filter packet socket: %w", err)
	}
	s.updated = port
	s.port.Store(port)
	return nil
}

// joinGroups brings the groups from what they were made for to port.
func (s *socket) joinGroups(protocol Protocol, port *Port) error {
	for address, now := range plan.Delta(s.updated.Addresses, port.Addresses) {
		group, ok := protocol.Group(address)
		if !ok {
			continue
		}
		change := s.groups.removeGroup
		if now != nil {
			change = s.groups.addGroup
		}
		if err := change(group); err != nil {
			return err
		}
	}
	return nil
}
