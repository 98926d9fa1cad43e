package arp

import (
	"golang.org/x/net/bpf"

	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

// Claims is ARP as a responder.Protocol that answers nothing and hears which other machines use a
// port's addresses: those that send a packet of either kind from one (RFC 5227 section 2.4). The
// zero value is ready for use.
type Claims struct{ Protocol }

var _ responder.Protocol = Claims{}

// Question implements responder.Protocol: every packet.
func (Claims) Question() []bpf.Instruction { return nil }

// KeyOffset implements responder.Protocol: the sender's address.
func (Claims) KeyOffset() uint32 { return senderIPOffset }

// Decide implements responder.Protocol.
func (Claims) Decide(frame []byte, port *responder.Port) ([]byte, responder.Outcome) {
	return nil, probe.Claim(Protocol{}, frame, port)
}
