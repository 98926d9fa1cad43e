// Package arp is the IPv4 half of answering for addresses: which ARP requests to answer
// and how (RFC 826), duplicate address detection by others (RFC 5227 section 2.1.1), and
// announcements. It is pure; package responder has the sockets.
package arp

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

// Offsets and values in an Ethernet frame that carries ARP for IPv4 (RFC 826).
const (
	headerSize      = 14
	typeOffset      = 12
	operationOffset = headerSize + 6
	targetIPOffset  = headerSize + 24

	hardwareEthernet = 1
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	zeroMAC   = net.HardwareAddr{0, 0, 0, 0, 0, 0}
)

// Protocol is ARP as a responder.Protocol. The zero value is ready for use.
type Protocol struct{}

var _ responder.Protocol = Protocol{}

// Name implements responder.Protocol.
func (Protocol) Name() string { return "arp" }

// EtherType implements responder.Protocol.
func (Protocol) EtherType() int { return unix.ETH_P_ARP }

// Group implements responder.Protocol: ARP is broadcast.
func (Protocol) Group(netip.Addr) (netip.Addr, bool) { return netip.Addr{}, false }

// Question implements responder.Protocol: requests.
func (Protocol) Question() []bpf.Instruction {
	return responder.Require(operationOffset, 2, uint32(arp.OperationRequest))
}

// KeyOffset implements responder.Protocol.
func (Protocol) KeyOffset() uint32 { return targetIPOffset }

// Key implements responder.Protocol: the whole address.
func (Protocol) Key(address netip.Addr) uint32 {
	b := address.As4()
	return binary.BigEndian.Uint32(b[:])
}

// Decide implements responder.Protocol. A request is answered when it was sent to all hosts or to us, which
// the kernel's filter knows, and asks for one of port's addresses, from any host: also one with an address
// of another subnet, and also one that probes whether the address is free and has none itself (RFC 5227
// section 2.1.1).
func (Protocol) Decide(frame []byte, port *responder.Port) ([]byte, responder.Outcome) {
	request, outcome := parseRequest(frame)
	if request == nil {
		return nil, outcome
	}
	to, from := net.HardwareAddr(frame[:6]), net.HardwareAddr(frame[6:12])
	sender := request.SenderHardwareAddr
	switch {
	case to[0]&1 != 0 && !bytes.Equal(to, broadcast):
		return nil, responder.NotForUs
	case port.Own(from) || port.Own(sender):
		return nil, responder.OwnFrame
	case !port.Has(request.TargetIP):
		return nil, responder.NotOurs
	case sender[0]&1 != 0 || bytes.Equal(sender, zeroMAC):
		// An answer would go to a group of hosts or to no host.
		return nil, responder.BadSender
	case request.SenderIP == request.TargetIP:
		// RFC 5227 section 2.4: not a question, but another machine that announces the
		// address as its own.
		return nil, responder.Conflict
	}
	reply, ok := buildFrame(sender, arp.OperationReply, port.MAC, request.TargetIP, sender, request.SenderIP)
	if !ok {
		return nil, responder.Malformed
	}
	return reply, responder.Answered
}

// Announcement implements responder.Protocol: the address as sender and target, to
// everybody, in both forms (RFC 5227 section 3). Which of the two a host heeds depends
// on the host. The reply carries the sender's hardware address as the target's too, as
// some switches that inspect ARP demand.
func (Protocol) Announcement(port *responder.Port, address netip.Addr) [][]byte {
	request, okRequest := buildFrame(broadcast, arp.OperationRequest, port.MAC, address, zeroMAC, address)
	reply, okReply := buildFrame(broadcast, arp.OperationReply, port.MAC, address, port.MAC, address)
	if !okRequest || !okReply {
		return nil
	}
	return [][]byte{request, reply}
}

// parseRequest returns the request in frame, or nil and why there is none. The checks are those
// of RFC 826, "Packet Reception", on types and lengths.
func parseRequest(frame []byte) (*arp.Packet, responder.Outcome) {
	if len(frame) < headerSize || binary.BigEndian.Uint16(frame[typeOffset:]) != unix.ETH_P_ARP {
		return nil, responder.Malformed
	}
	var p arp.Packet
	if err := p.UnmarshalBinary(frame[headerSize:]); err != nil {
		return nil, responder.Malformed
	}
	if p.HardwareType != hardwareEthernet || p.ProtocolType != unix.ETH_P_IP || p.HardwareAddrLength != 6 || p.IPLength != 4 {
		return nil, responder.Malformed
	}
	if p.Operation != arp.OperationRequest {
		return nil, responder.NotRequest
	}
	return &p, responder.Answered
}

// buildFrame returns a whole Ethernet frame from senderMAC to the hardware address to.
func buildFrame(to net.HardwareAddr, operation arp.Operation, senderMAC net.HardwareAddr, senderIP netip.Addr, targetMAC net.HardwareAddr, targetIP netip.Addr) ([]byte, bool) {
	p, err := arp.NewPacket(operation, senderMAC, senderIP, targetMAC, targetIP)
	if err != nil {
		return nil, false
	}
	body, err := p.MarshalBinary()
	if err != nil {
		return nil, false
	}
	frame := make([]byte, 0, headerSize+len(body))
	frame = append(frame, to...)
	frame = append(frame, senderMAC...)
	frame = binary.BigEndian.AppendUint16(frame, unix.ETH_P_ARP)
	return append(frame, body...), true
}
