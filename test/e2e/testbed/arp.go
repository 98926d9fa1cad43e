package testbed

import (
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

const etherTypeARP = ethernet.EtherTypeARP

// request returns q as a question by ARP, of the host with these addresses.
func (q Question) request(mac net.HardwareAddr, from netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(arp.OperationRequest, mac, from, make(net.HardwareAddr, 6), q.Address)
	if err != nil {
		return nil, err
	}
	switch q.Form {
	case Probe:
		p.SenderIP = netip.IPv4Unspecified()
	case Claim:
		p.SenderIP = q.Address // RFC 5227 section 3
	case Reply:
		p.Operation = arp.OperationReply
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, err
	}
	to := q.To
	if to == nil {
		to = ethernet.Broadcast
	}
	frame := ethernet.Frame{Destination: to, Source: mac, EtherType: etherTypeARP, Payload: payload}
	return frame.MarshalBinary()
}

// arpHolder returns who says in a reply to have address.
func arpHolder(raw []byte, address netip.Addr) (net.HardwareAddr, bool) {
	var frame ethernet.Frame
	var p arp.Packet
	if frame.UnmarshalBinary(raw) != nil || p.UnmarshalBinary(frame.Payload) != nil {
		return nil, false
	}
	// Gratuitous announcements are no answers: they ask for themselves.
	return p.SenderHardwareAddr, p.Operation == arp.OperationReply && p.SenderIP == address && p.TargetIP != address
}
