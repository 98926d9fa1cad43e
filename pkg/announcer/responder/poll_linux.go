package responder

import (
	"time"
)

// begin has s read: by the owner, where it polls and the connection is one that it can be told of,
// else by a goroutine.
func (r *Responder) begin(s *socket) (err error) {
	conn, ok := s.conn.(*batchConn)
	if r.options.Poller == nil || !ok {
		r.readers.Go(func() { r.read(s) })
		return nil
	}
	s.polled = true
	ready := func() {
		// It fails once the socket is closed, of which nothing is to be read any longer.
		_ = conn.raw.Control(func(fd uintptr) { r.drain(s, conn, int(fd)) })
	}
	if failed := conn.raw.Control(func(fd uintptr) { err = r.options.Poller.Add(int(fd), ready) }); failed != nil {
		return failed
	}
	return err
}

// drain answers what has arrived, as much as a batch holds, at a bounded rate.
func (r *Responder) drain(s *socket, conn *batchConn, fd int) {
	b := conn.batch
	for b.read(fd) {
		for range refill {
			port := s.port.Load()
			if port == nil || s.failed.Load() {
				return
			}
			frame, err := b.take()
			if err != nil { // See read.
				r.options.Poller.Remove(fd)
				s.failed.Store(true)
				r.options.OnFailure()
				return
			}
			if frame == nil {
				break
			}
			r.take(s, port, frame)
		}
		if b.next == len(b.frames) && b.err == nil {
			break // Others have their turn.
		}
	}
	if pause := conn.pace.rest(time.Now(), len(b.frames)); pause > 0 {
		r.options.Poller.Pause(fd, pause)
	}
}

// stop ends all answers at once, and has the connection closed, which waits for the kernel.
func (r *Responder) stop(s *socket) {
	s.stop()
	if s.polled {
		r.readers.Go(func() { _ = s.conn.Close() })
	}
}
