//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// realtime: with what the manifest gives an announcer all its threads have real-time
// scheduling, and none of the process that it starts for BGP.
func (b bgp) realtime() {
	for _, node := range b.nodes() {
		require.Equal(b, map[string]bool{"policy 2, priority 1": true}, b.scheduling(b.announcerPID(node)), "SCHED_RR")
		require.Equal(b, map[string]bool{"policy 0, priority 0": true}, b.scheduling(b.speakerPID(node)), "SCHED_OTHER")
		b.eventually(func(t *assert.CollectT) {
			require.Contains(t, b.metrics(node), "\nbaremetal_announcer_realtime 1\n")
		})
	}
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
