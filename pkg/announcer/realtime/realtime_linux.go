// Package realtime has the kernel give the process a processor before others. The announcer
// is a process that others watch: kept from the processor for a few hundred milliseconds it
// is dead to them, whatever it would have said.
package realtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// lowest is the lowest of the priorities that go before normal scheduling; see sched(7).
const lowest = 1

// Enter gives all threads of the process, and with them those that they will make, real-time
// scheduling: the policy SCHED_RR at the lowest priority. The error is EPERM where the process
// lacks the capability SYS_NICE, or its cgroup has no real-time budget (CONFIG_RT_GROUP_SCHED).
func Enter() error {
	return schedule(unix.SchedAttr{Policy: unix.SCHED_RR, Priority: lowest})
}

// Leave gives all threads of the process normal scheduling, which needs no capability. A
// process begins with the scheduling of the one that started it.
func Leave() error {
	return schedule(unix.SchedAttr{Policy: unix.SCHED_NORMAL})
}

// Yield lets threads of the same priority go first that wait for this processor. The kernel would
// have them wait for as long as sysctl kernel.sched_rr_timeslice_ms says, 100 ms by default.
func Yield() {
	_, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // It never fails.
}

// schedule brings all threads to want. A thread that is not there yet may make another one
// while the threads are listed; one that is makes its like. So it is done only after a pass
// that found all of them there.
func schedule(want unix.SchedAttr) error {
	for {
		changed, err := pass(want)
		if err != nil {
			return fmt.Errorf("set the scheduling of all threads: %w", err)
		}
		if !changed {
			return nil
		}
	}
}

// pass brings the threads that are listed to want, and says whether one was not there.
func pass(want unix.SchedAttr) (changed bool, err error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false, err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return false, err
		}
		now, err := unix.SchedGetAttr(id, 0)
		if err == nil && (now.Policy != want.Policy || now.Priority != want.Priority) {
			changed = true
			err = unix.SchedSetAttr(id, &want, 0)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) { // that one has ended
			return false, err
		}
	}
	return changed, nil
}
