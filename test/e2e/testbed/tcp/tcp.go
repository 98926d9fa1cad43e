// Package tcp makes many short TCP connections from a network namespace. Closing one resets
// it: thousands that linger would be a load of their own.
package tcp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"
)

// Conn is a connection to a server, or will be one. Its reads and writes end with a context.
type Conn struct {
	*socket.Conn
	to unix.Sockaddr
}

// Open returns a Conn in the calling thread's network namespace that is not connected yet.
// It is to be closed.
func Open(to netip.AddrPort) (*Conn, error) {
	domain, sockaddr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if to.Addr().Is4() {
		domain, sockaddr = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	conn, err := socket.Socket(domain, unix.SOCK_STREAM, 0, "tcp", nil)
	if err != nil {
		return nil, fmt.Errorf("open a socket to %s: %w", to, err)
	}
	if err := resetAtEnd(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Conn{conn, sockaddr}, nil
}

func resetAtEnd(conn *socket.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
	return errors.Join(err, failed)
}

// Connect connects.
func (c *Conn) Connect(ctx context.Context) error {
	_, err := c.Conn.Connect(ctx, c.to)
	return failure("connect", err)
}

// Get requests / by HTTP/1.0 and returns the first bytes of the answer, one at least. The
// error is io.EOF where the server closed the connection instead.
func (c *Conn) Get(ctx context.Context) ([]byte, error) {
	if _, err := c.WriteContext(ctx, []byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		return nil, failure("write", err)
	}
	answer := make([]byte, 64)
	n, err := c.ReadContext(ctx, answer)
	if err != nil {
		return nil, failure("read", err) // n is -1 then
	}
	return answer[:n], nil
}

// failure says what failed, and the cause alone.
func failure(what string, err error) error {
	if err == nil {
		return nil
	}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		err = errno
	}
	return fmt.Errorf("%s: %w", what, err)
}
