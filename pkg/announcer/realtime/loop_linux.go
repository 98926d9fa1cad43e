package realtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Loop is what one goroutine waits by that must not be late: for sockets, for others, and for
// time. The goroutine has a thread of its own, which waits in the kernel and not in Go's
// scheduler: what happens reaches it without any other thread of the process having to run.
//
// Wake may be called from any goroutine; the rest by the owner.
type Loop struct {
	epoll  int
	ready  map[int32]func()
	events [64]unix.EpollEvent
	thread *Thread

	// woken reports whether Wait was woken and has not returned yet.
	woken atomic.Bool
	mu    sync.Mutex
	wake  int // the eventfd; -1 once it is closed
}

// NewLoop returns a Loop that waits for nothing but Wake and time.
func NewLoop(thread *Thread) (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("wait for sockets: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	}
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("wait for others: %w", err)
	}
	return &Loop{epoll: epoll, wake: wake, ready: map[int32]func(){}, thread: thread}, nil
}

// Begin makes the calling goroutine the owner, and gives it its thread until it ends.
func (l *Loop) Begin() {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(precise), 0, 0, 0) // It does not fail.
}

// Hasten makes the thread go before others, and Relax no more.
func (l *Loop) Hasten() { l.thread.Hasten() }

// Relax undoes Hasten.
func (l *Loop) Relax() { l.thread.Relax() }

// Add has Wait call ready, on the owner's goroutine, whenever the socket has something. It may
// be called for nothing, so that the socket must not block. That ends when the socket is closed.
func (l *Loop) Add(socket int, ready func()) error {
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, socket, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(socket)}); err != nil {
		return fmt.Errorf("wait for a socket: %w", err)
	}
	l.ready[int32(socket)] = ready
	return nil
}

// Pause has Wait not call ready for a while, however much the socket has: what others send must
// not keep the owner busy. The kernel drops what exceeds the socket's buffer.
func (l *Loop) Pause(socket int, how time.Duration) {
	listen := func(events uint32) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.wake >= 0 {
			// It fails for a socket that was closed meanwhile.
			_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, socket, &unix.EpollEvent{Events: events, Fd: int32(socket)})
		}
	}
	listen(0)
	time.AfterFunc(how, func() { listen(unix.EPOLLIN) })
}

// Remove ends that while the socket is open.
func (l *Loop) Remove(socket int) {
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, socket, nil) // It is there.
	delete(l.ready, int32(socket))
}

// Wake has Wait return, also the next one if there is none at present.
func (l *Loop) Wake() {
	if l.woken.Swap(true) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wake >= 0 {
		_, _ = unix.Write(l.wake, binary.NativeEndian.AppendUint64(nil, 1)) // It never blocks.
	}
}

// Wait returns when a socket had something, when it was woken, or after pause; a negative one
// is without end.
func (l *Loop) Wait(pause time.Duration) {
	for _, e := range l.events[:l.awaitEvents(pause)] {
		if e.Fd == int32(l.wake) {
			l.answerWake()
			continue
		}
		if ready := l.ready[e.Fd]; ready != nil {
			ready()
		}
	}
}

// Nap has the thread sleep, whatever happens meanwhile.
func (l *Loop) Nap(how time.Duration) {
	if l.thread.beforeWait() {
		l.thread.regainClass()
		defer l.thread.afterWake()
	}
	time := unix.NsecToTimespec(how.Nanoseconds())
	_ = unix.Nanosleep(&time, nil) // A signal may end it early.
}

// awaitEvents waits for events and returns how many there are. A thread that has used up what it has goes
// on as a normal one while there are any. To sleep costs nothing, so that it sleeps, and wakes up,
// as what it is.
func (l *Loop) awaitEvents(pause time.Duration) int {
	if !l.thread.beforeWait() {
		return l.pollEvents(pause)
	}
	if n := l.pollEvents(0); n > 0 || pause == 0 {
		return n
	}
	l.thread.regainClass()
	defer l.thread.afterWake()
	return l.pollEvents(pause)
}

// pollEvents has the kernel tell events.
func (l *Loop) pollEvents(pause time.Duration) int {
	n, err := unix.EpollWait(l.epoll, l.events[:], roundMilliseconds(pause))
	if err != nil && !errors.Is(err, unix.EINTR) {
		panic(fmt.Sprintf("epoll_wait: %v", err)) // None of the other errors can be.
	}
	return max(n, 0)
}

// answerWake takes that Wait was woken. What is woken for from now on is another time.
func (l *Loop) answerWake() {
	var count [8]byte
	_, _ = unix.Read(l.wake, count[:])
	l.woken.Store(false)
}

// roundMilliseconds rounds up: what is early has nothing to do.
func roundMilliseconds(pause time.Duration) int {
	if pause < 0 {
		return -1
	}
	return int(min((pause+time.Millisecond-1)/time.Millisecond, 1<<30))
}

// Close frees what the Loop has, which ends with it.
func (l *Loop) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wake < 0 {
		return
	}
	_ = unix.Close(l.epoll)
	_ = unix.Close(l.wake)
	l.wake = -1
}
