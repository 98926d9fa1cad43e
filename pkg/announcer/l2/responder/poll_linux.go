package responder

import (
	"time"

	"golang.org/x/net/bpf"
)

// listenFunc returns what opens sockets.
func (o Options) listenFunc() listenFunc {
	listen := o.Listen
	switch {
	case listen != nil:
	case o.Poller != nil:
		return func(port *Port, etherType int, filter []bpf.RawInstruction) (frameSender, error) {
			return listenPolled(port, etherType, filter)
		}
	case o.OnConflict != nil:
		listen = listenForClaims
	default:
		listen = Listen
	}
	return func(port *Port, etherType int, filter []bpf.RawInstruction) (frameSender, error) {
		return listen(port, etherType, filter)
	}
}

// startReading begins the reading of s: by the owner, where it polls, else by a goroutine.
func (r *Responder) startReading(s *socket) error {
	switch conn := s.conn.(type) {
	case *polledConn:
		return r.options.Poller.Add(conn.fd, func() { r.drainSocket(s, conn) })
	case Conn:
		r.readers.Go(func() { r.readLoop(s, conn) })
	}
	return nil
}

// drainSocket answers what has arrived, as much as a batch holds, at a bounded rate.
func (r *Responder) drainSocket(s *socket, conn *polledConn) {
	b := conn.batch
	for b.readBatch(conn.fd) {
		for range refill {
			port := s.port.Load()
			if port == nil || s.failed.Load() {
				return
			}
			frame, err := b.takeFrame()
			if err != nil { // See read.
				r.options.Poller.Remove(conn.fd)
				s.failed.Store(true)
				r.options.OnFailure()
				return
			}
			if frame == nil {
				break
			}
			r.answerFrame(s, port, frame)
		}
		if b.next == len(b.frames) && b.err == nil {
			break // Others have their turn.
		}
	}
	if pause := conn.pace.restAfter(time.Now(), len(b.frames)); pause > 0 {
		r.options.Poller.Pause(conn.fd, pause)
	}
}

// stopSocket ends all answers of s at once, and lets its reader or another goroutine close its
// connection: that waits for the kernel, which the owner should not. A reader that failed has closed
// it.
func (r *Responder) stopSocket(s *socket) {
	s.port.Store(nil)
	_ = s.groups.closeGroups()
	switch conn := s.conn.(type) {
	case *polledConn:
		r.options.Poller.Remove(conn.fd) // Its number may soon be another one's.
		r.readers.Go(func() { _ = conn.Close() })
	case Conn:
		_ = conn.SetDeadline(time.Unix(1, 0)) // Its reader closes it.
	}
}
