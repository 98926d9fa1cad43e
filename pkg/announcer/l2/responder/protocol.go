package responder

import (
	"bytes"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Port is one interface and the addresses that are answered on it. A Port that was
// handed over is never written to again.
type Port struct {
	// Index and Name are the interface's.
	Index int
	Name  string
	// MAC is the interface's hardware address: what answers carry.
	MAC net.HardwareAddr
	// Ports are the hardware addresses of the ports of a bond, by which it may answer too.
	Ports []net.HardwareAddr
	// Addresses are all of the protocol's family.
	Addresses Addresses
}

// Address is an item of Addresses.
type Address netip.Addr

// At returns the address itself.
func (a Address) At() netip.Addr { return netip.Addr(a) }

// Equal reports whether a and b are the same.
func (a Address) Equal(b Address) bool { return a == b }

// Addresses are a set of addresses.
type Addresses = plan.Index[Address]

// NewAddresses returns the set of list.
func NewAddresses(list ...netip.Addr) Addresses {
	items := make([]Address, 0, len(list))
	for _, a := range list {
		items = append(items, Address(a))
	}
	return plan.NewIndex(items...)
}

// Own reports whether mac is one of the interface's hardware addresses.
func (p *Port) Own(mac net.HardwareAddr) bool {
	own := func(other net.HardwareAddr) bool { return bytes.Equal(mac, other) }
	return own(p.MAC) || slices.ContainsFunc(p.Ports, own)
}

// Has reports whether the Port answers for address.
func (p *Port) Has(address netip.Addr) bool { return p.Addresses.Has(address) }

// Outcome is what became of a received frame, as a metric label.
type Outcome uint8

// The outcomes. All but Answered mean that nothing was sent.
const (
	// Answered reports whether a reply was due.
	Answered Outcome = iota
	// Malformed reports whether the frame is none of the protocol's, or damaged.
	Malformed
	// NotRequest reports whether the frame asks nothing.
	NotRequest
	// NotForUs reports whether the frame was sent to a group of other machines.
	NotForUs
	// NotOurs reports whether the frame asks for an address that is not answered here.
	NotOurs
	// BadSender reports whether the frame cannot come from the sender that it names, or names no
	// host to answer.
	BadSender
	// Conflict reports whether another machine announces one of our addresses as its own.
	Conflict
	// OwnFrame reports whether the frame is one of ours that came back.
	OwnFrame
	// Fenced reports whether a reply was due, and that the process overslept: another node may
	// answer by now.
	Fenced
	// Limited reports whether a reply was due, and that so many were sent of late that it was not.
	Limited

	outcomes
)

// String returns the outcome as the value of a metric label.
func (o Outcome) String() string {
	names := [outcomes]string{
		"answered", "malformed", "not_request", "not_for_us", "not_ours", "bad_sender", "conflict", "own_frame", "fenced", "limited",
	}
	if o >= outcomes {
		return "unknown"
	}
	return names[o]
}

// Protocol is address resolution of one family. Its methods are pure and may be called
// from several goroutines at once.
type Protocol interface {
	// Name is the protocol's name for people and metrics: "arp" or "ndp".
	Name() string
	// EtherType is what frames of the protocol carry.
	EtherType() int
	// Question returns the instructions of a filter that drop frames which ask nothing. In
	// all others the key of the address that they ask for is at KeyOffset.
	Question() []bpf.Instruction
	KeyOffset() uint32
	// Key returns what the filter looks at of address; others may have the same.
	Key(address netip.Addr) uint32
	// Decide returns the whole Ethernet frame to send in answer to frame, or nil, and why.
	Decide(frame []byte, port *Port) ([]byte, Outcome)
	// Announcement returns the frames that tell the whole segment, unasked, that address
	// is at port.
	Announcement(port *Port, address netip.Addr) [][]byte
	// Group returns the multicast group that a port has to be a member of to be asked for
	// address at all, or false if there is none. Several addresses may have the same.
	Group(address netip.Addr) (netip.Addr, bool)
}
