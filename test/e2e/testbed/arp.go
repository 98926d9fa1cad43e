package testbed

import (
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

const etherTypeARP = ethernet.EtherTypeARP

// request makes q a question by ARP, of the host with these addresses.
func (a *asking) request(q Question, mac net.HardwareAddr, from netip.Addr) error {
	p, err := arp.NewPacket(arp.OperationRequest, mac, from, make(net.HardwareAddr, 6), q.Address)
	if err != nil {
		return err
	}
	switch q.Form {
	case Probe:
		p.SenderIP = netip.IPv4Unspecified()
	case Reply:
		p.Operation = arp.OperationReply
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return err
	}
	if a.to = q.To; a.to == nil {
		a.to = ethernet.Broadcast
	}
	a.holder = func(frame []byte) (net.HardwareAddr, bool) { return arpHolder(frame, q.Address) }
	frame := ethernet.Frame{Destination: a.to, Source: mac, EtherType: etherTypeARP, Payload: payload}
	a.frame, err = frame.MarshalBinary()
	return err
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
