package ndp

import (
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

// Claims is NDP as a responder.Protocol that answers nothing and hears which other machines use a
// port's addresses: those that advertise one (RFC 4862 section 5.4.4). The zero value is ready
// for use.
type Claims struct{ Protocol }

var _ responder.Protocol = Claims{}

// Group implements responder.Protocol: unsolicited advertisements go to all nodes, of which
// every interface is one.
func (Claims) Group(netip.Addr) (netip.Addr, bool) { return netip.Addr{}, false }

// Question implements responder.Protocol: advertisements.
func (Claims) Question() []bpf.Instruction {
	return slices.Concat(
		responder.Require(nextHeaderOffset, 1, unix.IPPROTO_ICMPV6),
		responder.Require(hopLimitOffset, 1, hopLimit),
		responder.Require(messageOffset, 1, uint32(ipv6.ICMPTypeNeighborAdvertisement)),
	)
}

// Decide implements responder.Protocol.
func (Claims) Decide(frame []byte, port *responder.Port) ([]byte, responder.Outcome) {
	return nil, probe.Claim(Protocol{}, frame, port)
}
