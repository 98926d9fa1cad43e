package observer

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// Offsets in an Ethernet frame of what is filtered by (RFC 826, RFC 8200, RFC 4861).
const (
	typeOffset      = 12
	arpOffset       = 14
	arpSenderOffset = arpOffset + 14
	ipv6Offset      = 14
	nextOffset      = ipv6Offset + 6
	icmpOffset      = ipv6Offset + 40
	targetOffset    = icmpOffset + 8

	advertisement = 136
)

// claim is what a frame says: that address is at mac.
type claim struct {
	address netip.Addr
	mac     net.HardwareAddr
	unasked bool
}

// parse reads a frame that passed the filter, and reports whether it says where some
// address is.
func parse(data []byte) (claim, bool) {
	var frame ethernet.Frame
	if frame.UnmarshalBinary(data) != nil {
		return claim{}, false
	}
	switch frame.EtherType {
	case ethernet.EtherTypeARP:
		var p arp.Packet
		if p.UnmarshalBinary(frame.Payload) != nil {
			return claim{}, false
		}
		return claim{p.SenderIP, p.SenderHardwareAddr, p.Operation == arp.OperationRequest || p.TargetIP == p.SenderIP}, true
	case ethernet.EtherTypeIPv6:
		if len(data) < icmpOffset {
			return claim{}, false
		}
		message, err := ndp.ParseMessage(data[icmpOffset:])
		na, ok := message.(*ndp.NeighborAdvertisement)
		if err != nil || !ok {
			return claim{}, false
		}
		return claim{na.TargetAddress, frame.Source, !na.Solicited}, true
	}
	return claim{}, false
}

// filter accepts ARP whose sender is in v4, and Neighbor Advertisements for targets in
// v6, where they enter the switch, and where they leave it by the port with that index.
func filter(exit int, v4, v6 netip.Prefix) ([]bpf.RawInstruction, error) {
	v6bytes := v6.Addr().As16()
	require := func(offset uint32, size int, value uint32) []bpf.Instruction {
		return []bpf.Instruction{
			bpf.LoadAbsolute{Off: offset, Size: size},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipTrue: 1},
			bpf.RetConstant{Val: 0},
		}
	}
	isARP := []bpf.Instruction{
		bpf.LoadAbsolute{Off: arpSenderOffset, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: ^uint32(0) << (32 - v4.Bits())},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: first4(v4), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1 << 16},
	}
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 3},
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(exit), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: typeOffset, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_ARP, SkipTrue: uint8(len(isARP))},
	}
	program = append(program, isARP...)
	program = append(program, require(typeOffset, 2, unix.ETH_P_IPV6)...)
	program = append(program, require(nextOffset, 1, unix.IPPROTO_ICMPV6)...)
	program = append(program, require(icmpOffset, 1, advertisement)...)
	// The pool's prefix is 64 bits long.
	program = append(program, require(targetOffset, 4, binary.BigEndian.Uint32(v6bytes[:]))...)
	program = append(program, require(targetOffset+4, 4, binary.BigEndian.Uint32(v6bytes[4:]))...)
	return bpf.Assemble(append(program, bpf.RetConstant{Val: 1 << 16}))
}

func first4(p netip.Prefix) uint32 {
	b := p.Masked().Addr().As4()
	return binary.BigEndian.Uint32(b[:])
}

// asker is who the prober's questions come from: nobody on this LAN, so that no host's
// neighbour entries change by the answers.
var asker = struct {
	mac    net.HardwareAddr
	v4, v6 netip.Addr
}{net.HardwareAddr{0x02, 0x6f, 0x62, 0x73, 0x00, 0x01}, netip.MustParseAddr("172.30.0.250"), netip.MustParseAddr("fe80::6f:62ff:fe73:1")}

// question returns a frame that asks the LAN where address is.
func question(address netip.Addr) ([]byte, error) {
	from := asker.v6
	if address.Is4() {
		from = asker.v4
	}
	return testbed.Question{Address: address}.Frame(asker.mac, from)
}

// forged begins the hardware addresses of machines that a test makes up. What they claim is no answer.
var forged = []byte{0x06, 0x66, 0x6c}

// Forged returns the hardware address of a machine that there is not.
func Forged(i int) net.HardwareAddr {
	return append(net.HardwareAddr(nil), forged[0], forged[1], forged[2], byte(i>>16), byte(i>>8), byte(i))
}

func isForged(mac net.HardwareAddr) bool { return bytes.HasPrefix(mac, forged) }
