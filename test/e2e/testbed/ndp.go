package testbed

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const etherTypeIPv6 = ethernet.EtherTypeIPv6

// solicit returns q as a question by NDP, of the host with these addresses.
func (q Question) solicit(mac net.HardwareAddr, from netip.Addr) ([]byte, error) {
	group, err := ndp.SolicitedNodeMulticast(q.Address)
	if err != nil {
		return nil, err
	}
	own := &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}
	solicitation := &ndp.NeighborSolicitation{TargetAddress: q.Address, Options: []ndp.Option{own}}
	var message ndp.Message = solicitation
	to, hardware := group, q.To
	switch {
	case q.Form == Reply:
		own.Direction = ndp.Target
		message = &ndp.NeighborAdvertisement{Solicited: true, Override: false, TargetAddress: q.Address, Options: []ndp.Option{own}}
	case q.Form == Claim: // RFC 4861 section 7.2.6
		own.Direction = ndp.Target
		message = &ndp.NeighborAdvertisement{Override: true, TargetAddress: q.Address, Options: []ndp.Option{own}}
		from, to = q.Address, netip.MustParseAddr("ff02::1")
		group = to
	case q.Form == Probe:
		from, solicitation.Options = netip.IPv6Unspecified(), nil
	case q.Form == Bare:
		solicitation.Options = nil
	}
	if hardware == nil {
		raw := group.As16()
		hardware = net.HardwareAddr{0x33, 0x33, raw[12], raw[13], raw[14], raw[15]} // RFC 2464 section 7
	} else {
		to = q.Address
	}
	body, err := ndp.MarshalMessageChecksum(message, from, to)
	if err != nil {
		return nil, err
	}
	frame := ethernet.Frame{Destination: hardware, Source: mac, EtherType: etherTypeIPv6, Payload: inIPv6(from, to, body)}
	return frame.MarshalBinary()
}

// inIPv6 puts an ICMPv6 message into a packet that no router has forwarded.
func inIPv6(from, to netip.Addr, body []byte) []byte {
	p := binary.BigEndian.AppendUint16([]byte{6 << 4, 0, 0, 0}, uint16(len(body)))
	p = append(p, unix.IPPROTO_ICMPV6, ndp.HopLimit)
	p = append(append(p, from.AsSlice()...), to.AsSlice()...)
	return append(p, body...)
}

// ndpHolder returns who says in an advertisement to have address, in answer to a
// solicitation or, as to a probe, to everybody.
func ndpHolder(raw []byte, address netip.Addr, solicited bool) (net.HardwareAddr, bool) {
	var frame ethernet.Frame
	if frame.UnmarshalBinary(raw) != nil || len(frame.Payload) < ipv6.HeaderLen ||
		frame.Payload[6] != unix.IPPROTO_ICMPV6 || frame.Payload[7] != ndp.HopLimit {
		return nil, false
	}
	length := int(binary.BigEndian.Uint16(frame.Payload[4:]))
	message, err := ndp.ParseMessage(frame.Payload[ipv6.HeaderLen:min(len(frame.Payload), ipv6.HeaderLen+length)])
	if err != nil {
		return nil, false
	}
	na, ok := message.(*ndp.NeighborAdvertisement)
	return frame.Source, ok && na.TargetAddress == address && na.Solicited == solicited
}
