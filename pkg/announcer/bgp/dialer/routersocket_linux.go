package dialer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer is how much of what a router sends the kernel keeps, in bytes.
	receiveBuffer = 64 << 10
	// leastTimeout is how long a router has for taking a connection, at least.
	leastTimeout = time.Second
)

// dial connects to the router.
func dial(ctx context.Context, c Config) (net.Conn, error) {
	d := net.Dialer{Timeout: max(c.ConnectRetry, leastTimeout), KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		failed := raw.Control(func(fd uintptr) { err = prepare(int(fd), c) })
		return errors.Join(failed, err)
	}}
	if c.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.Source, 0))
	}
	return d.DialContext(ctx, "tcp", c.Router.String())
}

// prepare sets the options that a socket has to have before it connects.
func prepare(fd int, c Config) error {
	if c.Interface != "" {
		if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, c.Interface); err != nil {
			return fmt.Errorf("bind to %s: %w", c.Interface, err)
		}
	}
	if c.Password != "" {
		if err := sign(fd, c.Router.Addr(), c.Password); err != nil {
			return fmt.Errorf("set the password: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
		return fmt.Errorf("set the receive buffer: %w", err)
	}
	return setTTL(fd, c)
}

// sign has all segments to and from the router signed (RFC 2385).
func sign(fd int, router netip.Addr, password string) error {
	var option unix.TCPMD5Sig
	if len(password) > len(option.Key) {
		return unix.EINVAL
	}
	// A struct sockaddr_in has the address after the port, a sockaddr_in6 after the flow label too.
	if router.Is4() {
		option.Addr.Family = unix.AF_INET
		copy(option.Addr.Data[2:], router.AsSlice())
	} else {
		option.Addr.Family = unix.AF_INET6
		copy(option.Addr.Data[6:], router.AsSlice())
	}
	option.Keylen = uint16(copy(option.Key[:], password)) //nolint:gosec // At most 80.
	return unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &option)
}

// setTTL sets the TTL of what is sent and the least of what is taken. A connection takes
// another one while it lasts.
func setTTL(fd int, c Config) error {
	level, ttl, least := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MINTTL
	if c.Router.Addr().Is6() {
		level, ttl, least = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MINHOPCOUNT
	}
	own := -1 // The kernel's own.
	if c.TTL != 0 {
		own = int(c.TTL)
	}
	if err := unix.SetsockoptInt(fd, level, ttl, own); err != nil {
		return fmt.Errorf("set the TTL: %w", err)
	}
	if err := unix.SetsockoptInt(fd, level, least, int(c.MinimumTTL)); err != nil {
		return fmt.Errorf("set the least TTL: %w", err)
	}
	return nil
}

// resetTTL gives an open connection the TTLs of c.
func resetTTL(conn *net.TCPConn, c Config) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) { err = setTTL(int(fd), c) })
	return errors.Join(failed, err)
}
