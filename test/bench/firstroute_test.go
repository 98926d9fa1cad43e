package main

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// segment is an Ethernet frame with a TCP segment from port 179, padded as a switch may.
func segment(message ...byte) []byte {
	ip := make([]byte, 20, 60+len(message))
	ip[0], ip[9] = 0x45, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(40+len(message)))
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, 179)
	tcp[12] = 5 << 4
	return slices.Concat(make([]byte, 14), ip, tcp, message, make([]byte, 6))
}

// RFC 4271 section 4.3, with no attributes at all: they do not matter here.
func TestTheAddressOfAnUpdate(t *testing.T) {
	marker := slices.Repeat([]byte{0xff}, 16)
	announced := append(slices.Clone(marker), 0, 28, 2, 0, 0, 0, 0, 32, 192, 0, 2, 7)
	address, ok := updated(segment(announced...))
	require.True(t, ok)
	require.Equal(t, netip.MustParseAddr("192.0.2.7"), address)

	network := append(slices.Clone(marker), 0, 27, 2, 0, 0, 0, 0, 24, 192, 0, 2)
	keepalive := append(slices.Clone(marker), 0, 19, 4)
	for name, frame := range map[string][]byte{
		"a network": segment(network...), "a KEEPALIVE": segment(keepalive...), "no message": segment(), "not a message": segment(announced[1:]...),
	} {
		_, ok := updated(frame)
		require.False(t, ok, name)
	}
	other := segment(announced...)
	binary.BigEndian.PutUint16(other[34:], 80)
	_, ok = updated(other)
	require.False(t, ok, "another port")
	for n := range len(segment(announced...)) - 6 {
		_, ok := updated(segment(announced...)[:n])
		require.False(t, ok, "cut after %d bytes", n)
	}
}
