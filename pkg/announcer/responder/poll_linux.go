package responder

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxAtOnce is how many frames of one socket the owner answers before others have their turn.
const maxAtOnce = 64

// begin has s read: by the owner, where it polls and the connection is one that it can be told of,
// else by a goroutine.
func (r *Responder) begin(s *socket) error {
	conn, ok := s.conn.(syscall.Conn)
	if r.options.Poller == nil || !ok {
		r.readers.Go(func() { r.read(s) })
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	s.polled = true
	buffer := make([]byte, maxFrame)
	ready := func() {
		// It fails once the socket is closed, of which nothing is to be read any more.
		_ = raw.Control(func(fd uintptr) { r.drain(s, int(fd), buffer) })
	}
	if failed := raw.Control(func(fd uintptr) { err = r.options.Poller.Add(int(fd), ready) }); failed != nil {
		return failed
	}
	return err
}

// drain answers what has arrived, up to a bound.
func (r *Responder) drain(s *socket, fd int, buffer []byte) {
	for range maxAtOnce {
		port := s.port.Load()
		if port == nil || s.failed.Load() {
			return
		}
		n, _, err := unix.Recvfrom(fd, buffer, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return
		case err != nil: // See read.
			r.options.Poller.Remove(fd)
			s.failed.Store(true)
			r.options.OnFailure()
			return
		}
		r.take(s, port, buffer[:n])
	}
}

// stop ends all answers at once, and has the connection closed, which waits for the kernel.
func (r *Responder) stop(s *socket) {
	s.stop()
	if s.polled {
		r.readers.Go(func() { _ = s.conn.Close() })
	}
}
