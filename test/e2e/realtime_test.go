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

// realtime: with what the manifest gives an announcer one of its threads has a deadline, one more
// while there are BFD sessions, and none of the process that it starts for BGP. Where this
// machine has no more to give, the announcer goes on with what it gets, and says so.
func (b bgp) realtime() {
	for _, node := range b.nodes() {
		b.eventually(func(t *assert.CollectT) {
			metrics, threads := b.metrics(node), b.scheduling(b.announcerPID(node))
			class := "deadline"
			if threads[class] == 0 {
				b.Logf("%s: this machine grants no deadline: %v", node, threads)
				class = "nice"
			}
			require.Contains(t, metrics, fmt.Sprintf("\nbaremetal_announcer_scheduling{class=%q,thread=\"announcer\"} 1\n", class))
			require.Contains(t, []int{1, 2}, threads[class], "%v", threads)
			delete(threads, class)
			require.Len(t, threads, 1, "all others are normal ones: %v", threads)
			require.Greater(t, threads["normal"], 2)
		})
		speaker := b.scheduling(b.speakerPID(node))
		require.Len(b, speaker, 1)
		require.Contains(b, speaker, "normal")
	}
}

// scheduling counts the threads of a process by class. One may be niced as the testbed is.
func (b bgp) scheduling(pid int) map[string]int {
	b.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	require.NoError(b, err)
	all := map[string]int{}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		require.NoError(b, err)
		s, err := unix.SchedGetAttr(id, 0)
		if errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		require.NoError(b, err)
		switch {
		case s.Policy == unix.SCHED_DEADLINE:
			all["deadline"]++
		case s.Policy == unix.SCHED_NORMAL && s.Nice < 0:
			all["nice"]++
		case s.Policy == unix.SCHED_NORMAL:
			all["normal"]++
		default:
			all[fmt.Sprintf("policy %d", s.Policy)]++
		}
	}
	return all
}
