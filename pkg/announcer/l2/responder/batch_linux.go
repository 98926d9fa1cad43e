package responder

import (
	"cmp"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	// arenaSize is how much of what came is taken out of the kernel before it is answered: about a
	// thousand ARP requests. The kernel's own buffer holds a few hundred, and a thousand hosts may
	// ask within a few milliseconds. refill is after how many frames it is looked for more.
	arenaSize = 64 << 10
	refill    = 64
	// receiveBuffer is what the kernel is asked for; net.core.rmem_max bounds what it gives.
	receiveBuffer = 1 << 20

	// frameRate bounds how many frames a second are read of one socket, claimFrameRate how many
	// where only claims of others are heard, and frameBurst how many at once: more than arenaSize
	// holds. What is beyond is left to the kernel, which drops it when its buffer is full, and
	// costs the process nothing.
	frameRate      = 6000
	claimFrameRate = 2000
	frameBurst     = 4096
	// wakeRate bounds how often a second a reader is woken by a frame, and wakeBurst how often at
	// once. Then it looks once in nap: to be woken costs more than to read a frame.
	wakeRate  = 250
	wakeBurst = 500
	nap       = 5 * time.Millisecond
)

// batch is what was taken out of the kernel at once. It has one user.
type batch struct {
	// arena holds frames, of which those from next on were not looked at yet; used is how much of
	// it is in use.
	arena  []byte
	used   int
	frames [][]byte
	next   int
	// err is what went wrong after the last frame.
	err error
}

func newBatch() *batch { return &batch{arena: make([]byte, arenaSize)} }

// readBatch takes what there is, as far as there is room, and reports whether there is anything to
// look at, frames or an error. It does not wait.
func (b *batch) readBatch(fd int) bool {
	if b.next == len(b.frames) {
		b.frames, b.next, b.used = b.frames[:0], 0, 0
	}
	for b.err == nil && b.used+maxFrame <= len(b.arena) {
		n, err := unix.Read(fd, b.arena[b.used:b.used+maxFrame])
		switch {
		case err == nil:
			b.frames = append(b.frames, b.arena[b.used:b.used+n:b.used+n])
			b.used += n
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return b.next < len(b.frames)
		default:
			b.err = err
		}
	}
	return true
}

// takeFrame returns the next frame, or what went wrong after the last one. There is neither at the end.
func (b *batch) takeFrame() (frame []byte, err error) {
	if b.next < len(b.frames) {
		b.next++
		return b.frames[b.next-1], nil
	}
	err, b.err = b.err, nil
	return nil, err
}

// batchConn is a packet socket that takes many frames out of the kernel at once, and at a
// bounded rate. One goroutine reads.
type batchConn struct {
	*packet.Conn
	raw   syscall.RawConn
	batch *batch
	pace  *readPace
	// hurry ends a pause between two reads, because a deadline has passed. It is of one.
	hurry chan struct{}
}

var _ Conn = (*batchConn)(nil)

func newBatchConn(c *packet.Conn, perSecond rate.Limit) (*batchConn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	err = raw.Control(func(fd uintptr) {
		// A smaller buffer is no reason not to answer.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	})
	if err != nil {
		return nil, err
	}
	return &batchConn{Conn: c, raw: raw, batch: newBatch(), pace: newReadPace(perSecond), hurry: make(chan struct{}, 1)}, nil
}

// ReadFrom returns the next frame. Where it came from is in the frame.
func (c *batchConn) ReadFrom(frame []byte) (int, net.Addr, error) {
	b := c.batch
	if b.next == len(b.frames) && b.err == nil {
		if err := c.waitForFrame(); err != nil {
			return 0, nil, err
		}
	} else if b.next%refill == 0 {
		_ = c.raw.Control(func(fd uintptr) { b.readBatch(int(fd)) }) // The next one that waits fails too.
	}
	next, err := b.takeFrame()
	if err != nil {
		return 0, nil, err
	}
	return copy(frame, next), nil, nil
}

// Send implements frameSender.
func (c *batchConn) Send(frame []byte) (err error) {
	// To wait in Go's poller for room would keep the caller from everything else.
	failed := c.raw.Control(func(fd uintptr) { _, err = unix.Write(int(fd), frame) })
	return cmp.Or(failed, err)
}

// waitForFrame waits until there is something in the batch.
func (c *batchConn) waitForFrame() error {
	if pause := c.pace.restAfter(time.Now(), len(c.batch.frames)); pause > 0 {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-c.hurry:
			timer.Stop()
		}
	}
	return c.raw.Read(func(fd uintptr) bool { return c.batch.readBatch(int(fd)) })
}

// SetDeadline does what that of net.Conn does.
func (c *batchConn) SetDeadline(t time.Time) error {
	if err := c.Conn.SetDeadline(t); err != nil || t.IsZero() || t.After(time.Now()) {
		return err
	}
	select {
	case c.hurry <- struct{}{}:
	default:
	}
	return nil
}

// readPace bounds how much is read, and how often.
type readPace struct{ frames, wakes *rate.Limiter }

func newReadPace(perSecond rate.Limit) *readPace {
	return &readPace{frames: rate.NewLimiter(perSecond, frameBurst), wakes: rate.NewLimiter(wakeRate, wakeBurst)}
}

// restAfter counts n frames that were read up to now, and returns for how long to read nothing.
func (p *readPace) restAfter(now time.Time, n int) time.Duration {
	wait := p.frames.ReserveN(now, min(n, frameBurst)).DelayFrom(now)
	if !p.wakes.AllowN(now, 1) {
		wait = max(wait, nap)
	}
	return wait
}
