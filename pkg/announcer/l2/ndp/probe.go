package ndp

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

var _ probe.Protocol = Protocol{}

// probeRuns is the size of the filter: few addresses are asked for at once, and for a
// short time.
const probeRuns = 100

// Probe implements probe.Protocol: a solicitation from the unspecified address, as in duplicate
// address detection (RFC 4862 section 5.4.2).
func (Protocol) Probe(mac net.HardwareAddr, address netip.Addr) []byte {
	group := solicitedNode(address)
	if !group.IsValid() {
		return nil
	}
	body, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{TargetAddress: address}, netip.IPv6Unspecified(), group)
	if err != nil {
		return nil
	}
	raw := group.As16()
	frame := make([]byte, 0, messageOffset+len(body))
	frame = append(append(frame, 0x33, 0x33), raw[12:]...) // RFC 2464 section 7
	frame = append(frame, mac...)
	frame = binary.BigEndian.AppendUint16(frame, unix.ETH_P_IPV6)
	frame = append(frame, 6<<4, 0, 0, 0)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(body)))
	frame = append(frame, unix.IPPROTO_ICMPV6, hopLimit)
	frame = append(append(frame, netip.IPv6Unspecified().AsSlice()...), raw[:]...)
	return append(frame, body...)
}

// HolderFilter implements probe.Protocol: advertisements of targets that end as one of
// addresses does.
func (Protocol) HolderFilter(addresses responder.Addresses) []bpf.Instruction {
	keys := make([]uint32, 0, addresses.Len())
	for a := range addresses.All() {
		keys = append(keys, Protocol{}.Key(a.At()))
	}
	filter := responder.Require(nextHeaderOffset, 1, unix.IPPROTO_ICMPV6)
	filter = append(filter, responder.Require(messageOffset, 1, uint32(ipv6.ICMPTypeNeighborAdvertisement))...)
	return append(filter, responder.MatchKeys(targetOffset+12, keys, probeRuns)...)
}

// Holder implements probe.Protocol: a machine that advertises an address has it. The checks are
// those of RFC 4861 section 7.1.2.
func (Protocol) Holder(frame []byte) (netip.Addr, net.HardwareAddr, bool) {
	if len(frame) < messageOffset || binary.BigEndian.Uint16(frame[typeOffset:]) != unix.ETH_P_IPV6 ||
		frame[nextHeaderOffset] != unix.IPPROTO_ICMPV6 || frame[hopLimitOffset] != hopLimit {
		return netip.Addr{}, nil, false
	}
	end := messageOffset + int(binary.BigEndian.Uint16(frame[lengthOffset:]))
	if end > len(frame) || !checksumRight(frame[sourceOffset:messageOffset], frame[messageOffset:end]) {
		return netip.Addr{}, nil, false
	}
	message, err := ndp.ParseMessage(frame[messageOffset:end])
	if err != nil {
		return netip.Addr{}, nil, false
	}
	na, ok := message.(*ndp.NeighborAdvertisement)
	if !ok || na.TargetAddress.IsMulticast() {
		return netip.Addr{}, nil, false
	}
	return na.TargetAddress, net.HardwareAddr(frame[6:12]), true
}
