package bfd

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// kind is what the kernel divides the packets of a port into, before anything is queued. Each has a
// socket of its own, so that a flood of one takes no room from another.
type kind int

const (
	// known are packets with the discriminator of a session. It is random, and only the peer and
	// machines that see its packets know it.
	known kind = iota
	// starting are packets without a discriminator from the address of a peer, which may begin or
	// have begun anew.
	starting
	// strange are all others. Some are read, so that their causes can be counted.
	strange

	kinds
)

const (
	// networkHeader has a load count from the network header, wherever the program begins
	// (SKF_NET_OFF). Behind it are the TTL or hop limit, and the source: of an IPv6 one the last
	// four bytes are enough, since a machine that forges one can forge all of it.
	networkHeader                = 0xfff00000
	ttlOffset, hopLimitOffset    = 8, 7
	ipv4SourceOffset, ipv6Source = 12, 8 + 12
	// yourDiscriminatorOffset is where a packet has it (RFC 5880 §4.1), and shortest what has one.
	yourDiscriminatorOffset, shortest = 8, 24
)

// dividingFilter returns the program that divides packets between the sockets of a port, which it returns by
// their numbers. It begins at the packet itself.
func dividingFilter(s socket, admitted []admission) ([]bpf.RawInstruction, error) {
	ttl, source := uint32(ttlOffset), uint32(ipv4SourceOffset)
	if s.ipv6 {
		ttl, source = hopLimitOffset, ipv6Source
	}
	is := func(k kind) bpf.Instruction { return bpf.RetConstant{Val: uint32(k)} }
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: shortest, SkipTrue: 1},
		is(strange),
	}
	if !s.multihop { // RFC 5881 §5: forwarded packets are none of ours.
		program = append(program,
			bpf.LoadAbsolute{Off: networkHeader + ttl, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: singleHopTTL, SkipTrue: 1},
			is(strange))
	}
	among := func(value func(admission) uint32, k kind) {
		seen := map[uint32]bool{}
		for _, a := range admitted {
			if v := value(a); !seen[v] {
				seen[v] = true
				program = append(program, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1}, is(k))
			}
		}
	}
	program = append(program, bpf.LoadAbsolute{Off: yourDiscriminatorOffset, Size: 4})
	among(func(a admission) uint32 { return a.discriminator }, known)
	program = append(program,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		is(strange),
		bpf.LoadAbsolute{Off: networkHeader + source, Size: 4})
	among(func(a admission) uint32 {
		address := a.peer.AsSlice()
		return binary.BigEndian.Uint32(address[len(address)-4:])
	}, starting)
	raw, err := bpf.Assemble(append(program, is(strange)))
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	return raw, nil
}

// socketProgram is the program of each socket: what is sent to a group of machines would come to all
// sockets of a port.
func socketProgram() ([]bpf.RawInstruction, error) {
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_HOST, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1 << 16},
	})
}
