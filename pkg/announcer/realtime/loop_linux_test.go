package realtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func newLoop(t *testing.T) *Loop {
	t.Helper()
	loop, err := NewLoop(NewThread(false, nil))
	require.NoError(t, err)
	t.Cleanup(loop.Close) // Which may be called twice.
	return loop
}

func TestLoopHearsOfSockets(t *testing.T) {
	loop := newLoop(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(pair[0])
	heard := 0
	require.NoError(t, loop.Add(pair[1], func() { heard++ }))
	_, err = unix.Write(pair[0], []byte("x"))
	require.NoError(t, err)
	loop.Wait(forEver)
	loop.Wait(forEver)
	require.Equal(t, 2, heard, "what was not read is still there")
	loop.Remove(pair[1])
	loop.Wait(0)
	require.Equal(t, 2, heard)

	require.NoError(t, loop.Add(pair[1], func() { heard++ }))
	require.NoError(t, unix.Close(pair[1]))
	loop.Wait(0)
	require.Equal(t, 2, heard, "it was closed")
	require.ErrorContains(t, loop.Add(pair[1], func() {}), "wait for a socket")
}

const forEver = time.Duration(-1)

func TestLoopIsWoken(t *testing.T) {
	loop := newLoop(t)
	for range 3 {
		go loop.Wake()
		loop.Wait(forEver)
	}
	loop.Wake()
	loop.Wake()
	loop.Wait(forEver)
	loop.Wait(time.Millisecond) // Nothing is left.
	loop.Close()
	loop.Wake() // It may still come.
}

func TestMilliseconds(t *testing.T) {
	for pause, want := range map[time.Duration]int{-1: -1, 0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, 1 << 62: 1 << 30} {
		require.Equal(t, want, roundMilliseconds(pause))
	}
}

// TestFault_K1_4_LoopPausesASocket: one that others flood is left alone for a while, and heard
// again after that.
func TestFault_K1_4_LoopPausesASocket(t *testing.T) {
	loop := newLoop(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	heard := 0
	require.NoError(t, loop.Add(pair[1], func() { heard++ }))
	_, err = unix.Write(pair[0], []byte("x"))
	require.NoError(t, err)
	loop.Pause(pair[1], time.Hour)
	loop.Wait(0)
	require.Zero(t, heard)
	loop.Pause(pair[1], time.Millisecond)
	loop.Wait(forEver)
	require.Equal(t, 1, heard)
}
