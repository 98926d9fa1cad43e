package netstate

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// What a notification about an interface is for, as the kernel tells (linux/if_link.h).
const (
	attributeEvent    = unix.IFLA_EVENT
	eventNotifyPeers  = 4
	attributeTypeMask = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
)

// notifiesPeers returns the index of the interface that a notification asks to announce the
// addresses of again, or false. What is cut off at the end is not looked at.
func notifiesPeers(datagram []byte) (index int, ok bool) {
	const header = unix.NLMSG_HDRLEN
	if len(datagram) < header+unix.SizeofIfInfomsg || binary.NativeEndian.Uint16(datagram[4:6]) != unix.RTM_NEWLINK {
		return 0, false
	}
	index = int(int32(binary.NativeEndian.Uint32(datagram[header+4:])))
	rest := datagram[header+unix.SizeofIfInfomsg:]
	for len(rest) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(rest))
		if size < unix.SizeofRtAttr || size > len(rest) {
			return 0, false
		}
		value := rest[unix.SizeofRtAttr:size]
		if binary.NativeEndian.Uint16(rest[2:])&attributeTypeMask == attributeEvent {
			return index, len(value) == 4 && binary.NativeEndian.Uint32(value) == eventNotifyPeers
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	return 0, false
}
