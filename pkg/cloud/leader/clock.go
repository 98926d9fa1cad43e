package leader

import (
	"time"

	"golang.org/x/sys/unix"
)

// BootClock returns the time since the machine booted, the time that it slept included
// (CLOCK_BOOTTIME). It never jumps, whatever is done to the wall clock.
func BootClock() time.Duration {
	var ts unix.Timespec
	// It fails only for a clock that the kernel does not know or a bad pointer.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}
