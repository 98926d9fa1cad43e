package need

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// ended is a test that tells how it ended.
type ended struct {
	testing.TB
	how string
}

func (e *ended) Helper()               {}
func (e *ended) Skip(...any)           { e.how = "skipped"; runtime.Goexit() }
func (e *ended) Fatalf(string, ...any) { e.how = "failed"; runtime.Goexit() }

// TestMissing: a test skips itself on a developer's machine, and fails where nothing may be missing.
func TestMissing(t *testing.T) {
	for value, want := range map[string]string{"": "skipped", "no": "skipped", "yes": "failed"} {
		t.Setenv(Everything, value)
		e, done := &ended{}, make(chan struct{})
		go func() {
			defer close(done)
			Missing(e, "no such kernel")
		}()
		<-done
		require.Equal(t, want, e.how, value)
	}
}
