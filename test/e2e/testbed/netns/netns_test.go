package netns

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The first thread of a process never ends. If it stayed in the namespace, the process
// would count as living there, and be killed when the namespace is removed.
func TestDoLeavesTheProcessWhereItIs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	name := fmt.Sprint("netns-test-", os.Getpid())
	require.NoError(t, Add(t.Context(), name))
	defer func() { require.NoError(t, Delete(t.Context(), name)) }()

	first := 0
	var group sync.WaitGroup
	var mu sync.Mutex
	for range 2000 {
		group.Go(func() {
			if unix.Gettid() == unix.Getpid() {
				mu.Lock()
				first++
				mu.Unlock()
			}
			_ = Do(name, func() error { runtime.Gosched(); return nil })
		})
	}
	group.Wait()
	pids, err := PIDs(t.Context(), name)
	require.NoError(t, err)
	require.NotContains(t, pids, os.Getpid(), "%d goroutines ran on the first thread", first)
}
