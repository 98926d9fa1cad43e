//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	realtimeThread = "policy 2, priority 1" // SCHED_RR
	normalThread   = "policy 0, priority 0" // SCHED_OTHER
)

// realtime: with what the manifest gives an announcer all its threads have real-time
// scheduling, and none of the process that it starts for BGP. Where this machine lets nobody
// have it the announcer goes on, and says so.
func (b bgp) realtime() {
	thread, metric := realtimeThread, 1
	if err := denied(); err != nil {
		b.Logf("no process of this machine may be real-time (%v): announcers are to go on without", err)
		thread, metric = normalThread, 0
	}
	for _, node := range b.nodes() {
		require.Equal(b, map[string]bool{thread: true}, b.scheduling(b.announcerPID(node)))
		require.Equal(b, map[string]bool{normalThread: true}, b.scheduling(b.speakerPID(node)))
		b.eventually(func(t *assert.CollectT) {
			require.Contains(t, b.metrics(node), fmt.Sprintf("\nbaremetal_announcer_realtime %d\n", metric))
		})
	}
}

// denied returns why no thread of the machine gets real-time scheduling: its cgroup may have no
// budget for it, whatever the capabilities.
func denied() error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // The thread ends with the goroutine.
		result <- unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_RR, Priority: 1}, 0)
	}()
	return <-result
}

// scheduling returns what the kernel says of the threads of a process.
func (b bgp) scheduling(pid int) map[string]bool {
	b.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	require.NoError(b, err)
	all := map[string]bool{}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		require.NoError(b, err)
		s, err := unix.SchedGetAttr(id, 0)
		if errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		require.NoError(b, err)
		all[fmt.Sprintf("policy %d, priority %d", s.Policy, s.Priority)] = true
	}
	return all
}
