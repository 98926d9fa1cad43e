package ndp

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

// Offsets and values in an Ethernet frame that carries ICMPv6 right behind the IPv6
// header (RFC 8200 section 3, RFC 4861 section 4.3).
const (
	headerSize = 14
	ipSize     = 40
	typeOffset = 12

	lengthOffset      = headerSize + 4
	nextHeaderOffset  = headerSize + 6
	hopLimitOffset    = headerSize + 7
	sourceOffset      = headerSize + 8
	destinationOffset = headerSize + 24
	messageOffset     = headerSize + ipSize
	targetOffset      = messageOffset + 8

	// hopLimit shows that no router forwarded the packet (RFC 4861 section 7.1.1).
	hopLimit = 255
)

// solicitation is a valid Neighbor Solicitation.
type solicitation struct {
	to, from            net.HardwareAddr
	source, destination netip.Addr
	target              netip.Addr
	// sender is where to answer: the source link-layer address option, or else the source of the
	// frame.
	sender net.HardwareAddr
}

// parseSolicitation returns the solicitation in frame, or nil and why there is none. The checks are
// all those of RFC 4861 section 7.1.1.
func parseSolicitation(frame []byte) (*solicitation, responder.Outcome) {
	if len(frame) < messageOffset || binary.BigEndian.Uint16(frame[typeOffset:]) != unix.ETH_P_IPV6 || frame[headerSize]>>4 != 6 {
		return nil, responder.Malformed
	}
	if frame[nextHeaderOffset] != unix.IPPROTO_ICMPV6 {
		return nil, responder.NotRequest
	}
	end := messageOffset + int(binary.BigEndian.Uint16(frame[lengthOffset:]))
	if end > len(frame) || frame[hopLimitOffset] != hopLimit {
		return nil, responder.Malformed
	}
	body := frame[messageOffset:end]
	if len(body) < 4 {
		return nil, responder.Malformed
	}
	if body[0] != byte(ipv6.ICMPTypeNeighborSolicitation) {
		return nil, responder.NotRequest
	}
	s := &solicitation{
		to: net.HardwareAddr(frame[:6]), from: net.HardwareAddr(frame[6:12]),
		source:      netip.AddrFrom16([16]byte(frame[sourceOffset:])),
		destination: netip.AddrFrom16([16]byte(frame[destinationOffset:])),
	}
	if body[1] != 0 || !checksumRight(frame[sourceOffset:messageOffset], body) || !s.parseMessage(body) {
		return nil, responder.Malformed
	}
	return s, responder.Answered
}

// parseMessage takes target and options, and reports whether they are valid.
func (s *solicitation) parseMessage(body []byte) bool {
	message, err := ndp.ParseMessage(body)
	if err != nil {
		return false
	}
	ns, ok := message.(*ndp.NeighborSolicitation)
	if !ok || ns.TargetAddress.IsMulticast() {
		return false
	}
	s.target, s.sender = ns.TargetAddress, s.from
	for _, option := range ns.Options {
		if lla, ok := option.(*ndp.LinkLayerAddress); ok && lla.Direction == ndp.Source {
			if s.source.IsUnspecified() || len(lla.Addr) != len(s.from) {
				return false
			}
			s.sender = lla.Addr
		}
	}
	return !s.source.IsUnspecified() || s.destination == solicitedNode(s.target)
}

// checksumRight verifies the ICMPv6 checksum (RFC 4443 section 2.3): the sum over the
// pseudo-header, of which addresses are source and destination, and the message, its
// checksum included, is all ones.
func checksumRight(addresses, message []byte) bool {
	sum := uint32(len(message)) + unix.IPPROTO_ICMPV6
	for _, part := range [][]byte{addresses, message} {
		for len(part) >= 2 {
			sum += uint32(part[0])<<8 | uint32(part[1])
			part = part[2:]
		}
		if len(part) == 1 {
			sum += uint32(part[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}

// advertisement is a Neighbor Advertisement to be.
type advertisement struct {
	from, to            net.HardwareAddr
	target, destination netip.Addr
	solicited           bool
}

// frame returns the whole Ethernet frame. The source address is the target itself: the
// interface may have no address that the asker could reach. Override is set, because the
// address is neither anycast nor proxied (RFC 4861 section 7.2.4): a host that knew another
// machine for it must forget that machine.
func (a advertisement) frame() ([]byte, bool) {
	body, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Solicited: a.solicited, Override: true, TargetAddress: a.target,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: a.from}},
	}, a.target, a.destination)
	if err != nil {
		return nil, false
	}
	frame := make([]byte, 0, messageOffset+len(body))
	frame = append(append(frame, a.to...), a.from...)
	frame = binary.BigEndian.AppendUint16(frame, unix.ETH_P_IPV6)
	frame = append(frame, 6<<4, 0, 0, 0)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(body)))
	frame = append(frame, unix.IPPROTO_ICMPV6, hopLimit)
	frame = append(append(frame, a.target.AsSlice()...), a.destination.AsSlice()...)
	return append(frame, body...), true
}
