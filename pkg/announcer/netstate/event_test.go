package netstate

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// linkMessage is a notification about the interface 7 with attributes.
func linkMessage(kind uint16, attributes ...[]byte) []byte {
	b := make([]byte, unix.NLMSG_HDRLEN+unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint32(b[unix.NLMSG_HDRLEN+4:], 7)
	for _, a := range attributes {
		b = append(b, a...)
	}
	return b
}

func attribute(kind uint16, value ...byte) []byte {
	b := make([]byte, unix.SizeofRtAttr)
	binary.NativeEndian.PutUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	b = append(b, value...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func event(n uint32) []byte {
	return attribute(unix.IFLA_EVENT, binary.NativeEndian.AppendUint32(nil, n)...)
}

// TestFault_K2_10_NotifyPeers: what the kernel says when a bond goes on by another port is
// understood, and nothing else is taken for it. No such device exists on every kernel.
func TestFault_K2_10_NotifyPeers(t *testing.T) {
	name := attribute(unix.IFLA_IFNAME, []byte("bond0\x00")...)
	index, ok := notifiesPeers(linkMessage(unix.RTM_NEWLINK, name, event(eventNotifyPeers), name))
	require.True(t, ok)
	require.Equal(t, 7, index)
	for what, message := range map[string][]byte{
		"another event":     linkMessage(unix.RTM_NEWLINK, name, event(3)),
		"no event":          linkMessage(unix.RTM_NEWLINK, name),
		"a link that ended": linkMessage(unix.RTM_DELLINK, event(eventNotifyPeers)),
		"cut off":           linkMessage(unix.RTM_NEWLINK, name, event(eventNotifyPeers))[:unix.NLMSG_HDRLEN+unix.SizeofIfInfomsg+len(name)+6],
		"a header":          linkMessage(unix.RTM_NEWLINK)[:20],
		"nothing":           nil,
	} {
		_, ok := notifiesPeers(message)
		require.False(t, ok, what)
	}
}

func FuzzNotifiesPeers(f *testing.F) {
	f.Add(linkMessage(unix.RTM_NEWLINK, event(eventNotifyPeers)))
	f.Add(linkMessage(unix.RTM_NEWLINK, attribute(unix.IFLA_IFNAME, []byte("eth0\x00")...), event(1)))
	f.Fuzz(func(t *testing.T, message []byte) {
		if index, ok := notifiesPeers(message); ok && index != int(int32(binary.NativeEndian.Uint32(message[unix.NLMSG_HDRLEN+4:]))) {
			t.Fatal(index)
		}
	})
}
