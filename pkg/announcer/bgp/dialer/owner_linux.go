package dialer

import (
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ownOther reports whether the other end of a connection over the loopback is a socket of this
// process. Every local user can connect; no other process has a descriptor of ours.
func ownOther(conn *net.TCPConn) bool {
	near, ok := addrPort(conn.LocalAddr())
	far, ok2 := addrPort(conn.RemoteAddr())
	if !ok || !ok2 || !far.Addr().IsLoopback() {
		return false
	}
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return false
	}
	for _, d := range descriptors {
		fd, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		// A descriptor may be closed meanwhile, or be no socket: then it is not this one.
		name, err := unix.Getsockname(fd)
		if err != nil || socketAddr(name) != far {
			continue
		}
		if peer, err := unix.Getpeername(fd); err == nil && socketAddr(peer) == near {
			return true
		}
	}
	return false
}

// addrPort returns the address of a TCP connection's end.
func addrPort(a net.Addr) (netip.AddrPort, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), true
}

// socketAddr returns what the kernel says of a socket; the zero AddrPort if it is none of IP.
func socketAddr(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)) //nolint:gosec // A port.
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port)) //nolint:gosec // A port.
	}
	return netip.AddrPort{}
}
