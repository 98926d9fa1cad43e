package proc

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Spawner starts processes that are killed when this process ends, by whatever cause.
// The kernel ties that to the thread which started them, so there is one thread for it.
type Spawner struct {
	requests chan request
}

type request struct {
	cmd  *exec.Cmd
	done chan error
}

// NewSpawner returns a Spawner; it starts nothing before Run is called.
func NewSpawner() *Spawner {
	return &Spawner{requests: make(chan request)}
}

// Run serves Start until ctx ends. When it returns, every process it started and that
// still lives is killed by the kernel.
func (s *Spawner) Run(ctx context.Context) error {
	// Never unlocked: another goroutine could end the thread and with it all children.
	runtime.LockOSThread()
	for {
		select {
		case r := <-s.requests:
			r.done <- r.cmd.Start()
		case <-ctx.Done():
			return nil
		}
	}
}

// Start starts c with its output appended to log. The caller has to Wait for it.
func (s *Spawner) Start(ctx context.Context, c Command, log *os.File) (*exec.Cmd, error) {
	encoded, err := json.Marshal(spec{Command: c, Parent: os.Getpid()})
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{ShimName, string(encoded)},
		Env:         []string{},
		Stdout:      log,
		Stderr:      log,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	r := request{cmd: cmd, done: make(chan error, 1)}
	select {
	case s.requests <- r:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := <-r.done; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	return cmd, nil
}
