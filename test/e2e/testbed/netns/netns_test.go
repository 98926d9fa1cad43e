package netns

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/need"
)

// The process must never seem to be in a namespace that one of its threads visits:
// removing the namespace ends the processes in it.
func TestDoSparesTheMainThread(t *testing.T) {
	need.Root(t, "network namespaces")
	name := fmt.Sprintf("tb-netns-%d", os.Getpid())
	require.NoError(t, Add(t.Context(), name))
	t.Cleanup(func() { require.NoError(t, Delete(context.Background(), name)) })
	before, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	var group sync.WaitGroup
	for range 50 * runtime.GOMAXPROCS(0) {
		group.Go(func() {
			_ = Do(name, func() error {
				inside, err := os.Readlink("/proc/thread-self/ns/net")
				if err == nil && inside == before {
					t.Error("f runs outside the namespace")
				}
				return err
			})
		})
	}
	group.Wait()
	after, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	require.Equal(t, before, after)
}
