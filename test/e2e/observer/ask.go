package observer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"github.com/mdlayher/socket"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// probe asks the LAN for every address, round by round, until ctx ends.
func (o *Observer) probe(ctx context.Context) error {
	var frames [][]byte
	for _, a := range o.addresses {
		frame, err := question(a)
		if err != nil {
			return err
		}
		frames = append(frames, frame)
	}
	var conn *packet.Conn
	err := netns.Do(o.cluster.Layout().Client.NetNS, func() error {
		port, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err = packet.Listen(port, packet.Raw, 0, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("open a socket to probe by: %w", err)
	}
	defer conn.Close()
	return every(ctx, AskInterval, func() error {
		o.asked(time.Now())
		for _, frame := range frames {
			if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
				return fmt.Errorf("ask the LAN: %w", err)
			}
		}
		return nil
	})
}

// request requests the addresses in turn, each time on a new connection from the client,
// until ctx ends.
func (o *Observer) request(ctx context.Context) error {
	var under sync.WaitGroup
	defer under.Wait()
	return netns.Do(o.cluster.Layout().Client.NetNS, func() error {
		next := 0
		return every(ctx, requestInterval, func() error {
			address := o.addresses[next%len(o.addresses)]
			next++
			domain := unix.AF_INET
			if address.Is6() {
				domain = unix.AF_INET6
			}
			conn, err := socket.Socket(domain, unix.SOCK_STREAM, 0, "tcp", nil)
			if err != nil {
				return fmt.Errorf("open a socket to request by: %w", err)
			}
			under.Go(func() {
				defer conn.Close()
				began := time.Now()
				opened, failure := get(ctx, conn, address)
				if ctx.Err() == nil {
					o.requested(Request{began, address, time.Since(began), failure, opened})
				}
			})
			return nil
		})
	})
}

// get does one GET, until the first bytes of the answer, and returns why that failed and
// whether the connection stood by then.
func get(ctx context.Context, conn *socket.Conn, address netip.Addr) (opened bool, failure string) {
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	if err := resetAtEnd(conn); err != nil {
		return false, err.Error()
	}
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: port, Addr: address.As16()}
	if address.Is4() {
		to = &unix.SockaddrInet4{Port: port, Addr: address.As4()}
	}
	if _, err := conn.Connect(ctx, to); err != nil {
		return false, why("connect", err)
	}
	if _, err := conn.WriteContext(ctx, []byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		return true, why("write", err)
	}
	answer := make([]byte, 64)
	n, err := conn.ReadContext(ctx, answer)
	switch {
	case err != nil:
		return true, why("read", err)
	case !bytes.HasPrefix(answer[:n], []byte("HTTP/1.0 200")):
		return true, fmt.Sprintf("it was answered by %q", answer[:n])
	}
	return true, ""
}

// why returns what failed and the cause alone.
func why(what string, err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return NoAnswer
	}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		err = errno
	}
	return what + ": " + err.Error()
}

// resetAtEnd makes closing reset the connection: thousands that linger would be a load of
// their own.
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

// every does something at a steady rate until ctx ends or it fails.
func every(ctx context.Context, interval time.Duration, do func() error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := do(); err != nil {
			return err
		}
	}
}
