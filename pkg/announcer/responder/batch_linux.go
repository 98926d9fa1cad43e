package responder

import (
	"net"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	// arenaSize is how much of what came is taken out of the kernel at once: more than 1500 ARP
	// requests. The kernel's own buffer holds a few hundred, and a thousand hosts may ask within a
	// few milliseconds.
	arenaSize = 128 << 10
	// receiveBuffer is what the kernel is asked for; net.core.rmem_max bounds what it gives.
	receiveBuffer = 1 << 20

	// frameRate bounds how many frames a second are read of one socket, claimFrameRate how many
	// where only claims of others are heard, and frameBurst how many at once: more than arenaSize
	// holds. What is beyond is left to the kernel, which drops it when its buffer is full, and
	// costs the process nothing.
	frameRate      = 20000
	claimFrameRate = 2000
	frameBurst     = 4096
	// wakeRate bounds how often a second a reader is woken by a frame, and wakeBurst how often at
	// once. Then it looks once in nap: to be woken costs more than to read a frame.
	wakeRate  = 500
	wakeBurst = 500
	nap       = 5 * time.Millisecond
)

// batchConn is a packet socket that takes many frames out of the kernel at once, and at a
// bounded rate. One goroutine reads.
type batchConn struct {
	*packet.Conn
	raw syscall.RawConn

	// arena holds frames, of which those from next on were not returned yet.
	arena  []byte
	frames [][]byte
	next   int
	err    error
	read   readPace
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
	return &batchConn{Conn: c, raw: raw, arena: make([]byte, arenaSize), hurry: make(chan struct{}, 1), read: newReadPace(perSecond)}, nil
}

// ReadFrom returns the next frame. Where it came from is in the frame.
func (c *batchConn) ReadFrom(frame []byte) (int, net.Addr, error) {
	if c.next == len(c.frames) {
		if err := c.fill(); err != nil {
			return 0, nil, err
		}
	}
	c.next++
	return copy(frame, c.frames[c.next-1]), nil, nil
}

// fill takes out of the kernel what there is, and waits where there is nothing.
func (c *batchConn) fill() error {
	if err := c.err; err != nil {
		c.err = nil
		return err
	}
	if pause := c.read.pause(time.Now()); pause > 0 {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-c.hurry:
			timer.Stop()
		}
	}
	c.frames, c.next = c.frames[:0], 0
	err := c.raw.Read(func(fd uintptr) bool {
		for used := 0; used+maxFrame <= len(c.arena); {
			n, err := unix.Read(int(fd), c.arena[used:used+maxFrame])
			switch err {
			case nil:
				c.frames = append(c.frames, c.arena[used:used+n:used+n])
				used += n
				continue
			case unix.EINTR:
				continue
			case unix.EAGAIN:
				return len(c.frames) > 0
			}
			c.err = err
			return true
		}
		return true
	})
	c.read.took(time.Now(), len(c.frames))
	if len(c.frames) > 0 {
		return nil // What went wrong comes with the next read.
	}
	if err == nil {
		err, c.err = c.err, nil
	}
	return err
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
type readPace struct {
	frames, wakes *rate.Limiter
	wait          time.Duration
}

func newReadPace(perSecond rate.Limit) readPace {
	return readPace{frames: rate.NewLimiter(perSecond, frameBurst), wakes: rate.NewLimiter(wakeRate, wakeBurst)}
}

// took counts n frames that were read at now.
func (p *readPace) took(now time.Time, n int) {
	p.wait = p.frames.ReserveN(now, min(n, frameBurst)).DelayFrom(now)
}

// pause returns for how long nothing is to be read from now on.
func (p *readPace) pause(now time.Time) time.Duration {
	wait := p.wait
	if !p.wakes.AllowN(now, 1) {
		wait = max(wait, nap)
	}
	p.wait = 0
	return wait
}
