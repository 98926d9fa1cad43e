package responder

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/internal/sockfilter"
)

// polledConn is a packet socket that never waits, and of which Go's runtime does not know: what
// comes wakes the owner by its Poller, and no other thread of the process. It has one user.
type polledConn struct {
	fd    int
	batch *batch
	pace  *readPace
}

var _ frameSender = (*polledConn)(nil)

// listenPolled is Listen for an owner that polls.
func listenPolled(port *Port, etherType int, filter []bpf.RawInstruction) (*polledConn, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	c := &polledConn{fd: fd, batch: newBatch(), pace: newReadPace(frameRate)}
	// A smaller buffer is no reason not to answer.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	if err = c.SetBPF(filter); err == nil {
		if err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(etherType), Ifindex: port.Index}); err == nil {
			return c, nil
		}
		err = fmt.Errorf("bind: %w", err)
	}
	_ = unix.Close(fd)
	return nil, err
}

// networkOrder returns a protocol's number as the kernel takes it.
func networkOrder(etherType int) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, uint16(etherType)))
}

// Send implements frameSender.
func (c *polledConn) Send(frame []byte) error {
	_, err := unix.Write(c.fd, frame)
	return err
}

// SetBPF implements frameSender.
func (c *polledConn) SetBPF(program []bpf.RawInstruction) error {
	return sockfilter.Attach(c.fd, unix.SO_ATTACH_FILTER, program)
}

// Close implements frameSender.
func (c *polledConn) Close() error { return unix.Close(c.fd) }
