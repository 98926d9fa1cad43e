// Package ndp is the IPv6 half of answering for addresses: which Neighbor Solicitations
// to answer and how (RFC 4861 sections 7.1.1 and 7.2), duplicate address detection by
// others (RFC 4862 section 5.4), and unsolicited advertisements. It is pure; package
// responder has the sockets.
package ndp

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

// Protocol is NDP as a responder.Protocol. The zero value is ready for use.
type Protocol struct{}

var _ responder.Protocol = Protocol{}

var (
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	zeroMAC     = net.HardwareAddr{0, 0, 0, 0, 0, 0}
)

// Name implements responder.Protocol.
func (Protocol) Name() string { return "ndp" }

// EtherType implements responder.Protocol.
func (Protocol) EtherType() int { return unix.ETH_P_IPV6 }

// Group implements responder.Protocol: the solicited-node group (RFC 4291 section 2.7.1),
// which addresses that end alike share.
func (Protocol) Group(address netip.Addr) (netip.Addr, bool) { return solicitedNode(address), true }

// Question implements responder.Protocol: solicitations.
func (Protocol) Question() []bpf.Instruction {
	return slices.Concat(
		responder.Require(nextHeaderOffset, 1, unix.IPPROTO_ICMPV6),
		responder.Require(hopLimitOffset, 1, hopLimit),
		responder.Require(messageOffset, 1, uint32(ipv6.ICMPTypeNeighborSolicitation)),
	)
}

// KeyOffset implements responder.Protocol.
func (Protocol) KeyOffset() uint32 { return targetOffset + 12 }

// Key implements responder.Protocol: the last four bytes.
func (Protocol) Key(address netip.Addr) uint32 {
	b := address.As16()
	return binary.BigEndian.Uint32(b[12:])
}

// Decide implements responder.Protocol. A solicitation of one of port's addresses is
// answered whether it was sent to the solicited-node group or, to confirm that the
// address is still there, straight to us, and from any host, also from outside the address's
// prefix. To a host that tests whether the address is free (no source address) the answer goes by
// way of all nodes (RFC 4861 section 7.2.4).
func (Protocol) Decide(frame []byte, port *responder.Port) ([]byte, responder.Outcome) {
	s, outcome := parseSolicitation(frame)
	if s == nil {
		return nil, outcome
	}
	switch {
	case s.destination != s.target && s.destination != solicitedNode(s.target):
		return nil, responder.NotForUs
	case port.Own(s.from) || port.Own(s.sender):
		return nil, responder.OwnFrame
	case !port.Has(s.target):
		return nil, responder.NotOurs
	case s.sender[0]&1 != 0 || bytes.Equal(s.sender, zeroMAC) || s.source.IsMulticast():
		// An answer would go to a group of hosts or to no host.
		return nil, responder.BadSender
	case s.source == s.target:
		// Another machine asks from the address that it asks for: it has it.
		return nil, responder.Conflict
	}
	answer := advertisement{from: port.MAC, target: s.target, to: s.sender, destination: s.source, solicited: true}
	if s.source.IsUnspecified() {
		answer.to, answer.destination, answer.solicited = allNodesMAC, allNodes, false
	}
	reply, ok := answer.frame()
	if !ok {
		return nil, responder.Malformed
	}
	return reply, responder.Answered
}

// Announcement implements responder.Protocol: an unsolicited advertisement to all nodes
// that replaces what they know (RFC 4861 section 7.2.6).
func (Protocol) Announcement(port *responder.Port, address netip.Addr) [][]byte {
	frame, ok := advertisement{from: port.MAC, target: address, to: allNodesMAC, destination: allNodes}.frame()
	if !ok {
		return nil
	}
	return [][]byte{frame}
}

func solicitedNode(address netip.Addr) netip.Addr {
	group, err := ndp.SolicitedNodeMulticast(address)
	if err != nil {
		return netip.Addr{} // Not IPv6: no group is ever asked for it.
	}
	return group
}
