package arp

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

var _ probe.Protocol = Protocol{}

// senderIPOffset is where a frame has its sender's IP address.
const senderIPOffset = headerSize + 14

// Probe implements probe.Protocol: a request without a sender's address, so that no host learns
// anything from it (RFC 5227 section 1.1).
func (Protocol) Probe(mac net.HardwareAddr, address netip.Addr) []byte {
	frame, ok := buildFrame(broadcast, arp.OperationRequest, mac, netip.IPv4Unspecified(), zeroMAC, address)
	if !ok {
		return nil
	}
	return frame
}

// HolderFilter implements probe.Protocol: frames of either kind from one of addresses.
func (Protocol) HolderFilter(addresses responder.Addresses) []bpf.Instruction {
	keys := make([]uint32, 0, addresses.Len())
	for a := range addresses.All() {
		keys = append(keys, Protocol{}.Key(a.At()))
	}
	return responder.MatchKeys(senderIPOffset, keys, probeRuns)
}

// probeRuns is the size of the filter: few addresses are asked for at once, and for a
// short time.
const probeRuns = 100

// Holder implements probe.Protocol: a machine that sends from an address has it (RFC 5227 section
// 2.1.1).
func (Protocol) Holder(frame []byte) (netip.Addr, net.HardwareAddr, bool) {
	if len(frame) < headerSize || binary.BigEndian.Uint16(frame[typeOffset:]) != unix.ETH_P_ARP {
		return netip.Addr{}, nil, false
	}
	var p arp.Packet
	if err := p.UnmarshalBinary(frame[headerSize:]); err != nil || p.HardwareType != hardwareEthernet ||
		p.ProtocolType != unix.ETH_P_IP || p.HardwareAddrLength != 6 || p.IPLength != 4 {
		return netip.Addr{}, nil, false
	}
	return p.SenderIP, p.SenderHardwareAddr, !p.SenderIP.IsUnspecified()
}
