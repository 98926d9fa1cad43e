package testlan

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Sender sends whole Ethernet frames from an interface, as fast as a system call takes.
type Sender struct {
	t  testing.TB
	fd int
	to *unix.SockaddrLinklayer
}

// Sender returns one for the interface called name.
func (n *Namespace) Sender(t testing.TB, name string) *Sender {
	t.Helper()
	s := &Sender{t: t, to: &unix.SockaddrLinklayer{Ifindex: n.Interface(t, name).Index, Halen: 6}}
	var err error
	n.Do(func() { s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0) })
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(s.fd) })
	return s
}

// Send sends a frame.
func (s *Sender) Send(frame []byte) {
	require.NoError(s.t, unix.Sendto(s.fd, frame, 0, s.to))
}

// Flood sends perSecond frames a second, as far as the machine can, and returns how many it sent,
// and how much of a core the rest of this process took meanwhile. frame returns frame i.
func (s *Sender) Flood(how time.Duration, perSecond int, frame func(i int) []byte) (sent int, core float64) {
	cpu := func(of int) time.Duration {
		var u unix.Rusage
		require.NoError(s.t, unix.Getrusage(of, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, own, began := cpu(unix.RUSAGE_SELF), cpu(unix.RUSAGE_THREAD), time.Now()
	for time.Since(began) < how {
		for due := int(time.Since(began).Seconds() * float64(perSecond)); sent < due; sent++ {
			s.Send(frame(sent))
		}
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 200_000}, nil)
	}
	others := cpu(unix.RUSAGE_SELF) - all - (cpu(unix.RUSAGE_THREAD) - own)
	return sent, others.Seconds() / time.Since(began).Seconds()
}
