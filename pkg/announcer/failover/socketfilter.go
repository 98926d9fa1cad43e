package failover

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/bpf"
)

const (
	// hopLimit is sent and required: no router hands on a datagram without lowering it, so
	// that nothing from beyond the segment counts (RFC 5082, section 3).
	hopLimit = 255

	// networkHeader has a load count from the network header, wherever the program begins
	// (SKF_NET_OFF); ttlOffset and hopLimitOffset are where IPv4 and IPv6 keep the hop limit.
	networkHeader  = 0xfff00000
	ttlOffset      = 8
	hopLimitOffset = 7
	// udpHeader is where the filter of a socket finds the payload. A program that selects a
	// socket begins there.
	udpHeader = 8

	// take lets a datagram through whole, and refuse not at all.
	take   = 0x40000
	refuse = 0

	// A program that selects a socket returns its number in the order of binding.
	selectPeers  = 0
	selectOthers = 1
)

// matchPairs returns a program that returns yes for datagrams of one of pairs that came
// straight from a machine on the segment, and no for all others. payload is where that begins.
func matchPairs(ipv6 bool, pairs []pairID, payload uint32, yes, no uint32) []bpf.Instruction {
	hops := uint32(ttlOffset)
	if ipv6 {
		hops = hopLimitOffset
	}
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: payload + pairOffset + pairSize, SkipTrue: 1},
		bpf.RetConstant{Val: no},
		bpf.LoadAbsolute{Off: networkHeader + hops, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: hopLimit, SkipTrue: 1},
		bpf.RetConstant{Val: no},
	}
	half := func(n uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: payload + pairOffset + 4*n, Size: 4} }
	program = append(program, half(0))
	for _, pair := range pairs {
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(pair[:4]), SkipTrue: 4},
			half(1),
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(pair[4:]), SkipTrue: 1},
			bpf.RetConstant{Val: yes},
			half(0), // Two pairs may begin alike.
		)
	}
	return append(program, bpf.RetConstant{Val: no})
}

// programs are what the kernel runs for the sockets of one interface and family.
type programs struct {
	// choose selects the socket, and peers and others let through what is meant for each:
	// a datagram to a broadcast address comes to both.
	choose, peers, others []bpf.RawInstruction
}

func newPrograms(ipv6 bool, pairs []pairID) (programs, error) {
	var p programs
	for _, one := range []struct {
		out     *[]bpf.RawInstruction
		payload uint32
		yes, no uint32
	}{
		{&p.choose, 0, selectPeers, selectOthers},
		{&p.peers, udpHeader, take, refuse},
		{&p.others, udpHeader, refuse, take},
	} {
		raw, err := bpf.Assemble(matchPairs(ipv6, pairs, one.payload, one.yes, one.no))
		if err != nil {
			return p, fmt.Errorf("assemble filter: %w", err)
		}
		*one.out = raw
	}
	return p, nil
}
