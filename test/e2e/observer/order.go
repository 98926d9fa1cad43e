package observer

import "encoding/binary"

// networkOrder returns a number whose bytes in memory are those of n in network order.
func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// native reads a number as the kernel wrote it.
func native(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }
