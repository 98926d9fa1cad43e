package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/test/e2e/testbed/lan"
)

// event is one line from the supervisor to the process that boots the testbed.
type event struct {
	Progress string `json:",omitempty"`
	Error    string `json:",omitempty"`
	Up       bool   `json:",omitempty"`
}

// Supervise is the life of the process that owns the testbed in dir: it boots it,
// keeps it, takes orders, and removes it when ctx ends, when it is told to, or when
// its owner is gone. Until the testbed is up its owner is whoever started this process.
// Events go to w, a line each; w is closed once it is up.
func Supervise(ctx context.Context, dir string, w io.WriteCloser) error {
	r, err := readRecord(dir)
	if err != nil {
		return err
	}
	r.Supervisor = os.Getpid()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	tell := teller(w)
	err = supervise(ctx, r, logger, func(e event) {
		tell(e)
		if e.Up {
			_ = w.Close()
		}
	})
	logger.Info("the testbed ends", "cause", err)
	failed := err != nil && !errors.Is(err, errDown) && !errors.Is(err, errOwner) && !errors.Is(err, context.Canceled)
	// Removed even if ctx has ended: that may be why.
	removed := remove(context.WithoutCancel(ctx), dir, r.Existed, failed)
	if failed {
		tell(event{Error: errors.Join(err, removed).Error()})
		return errors.Join(err, removed)
	}
	return removed
}

func supervise(ctx context.Context, r record, logger *slog.Logger, tell func(event)) error {
	group, ctx := errgroup.WithContext(ctx)
	booting, booted := context.WithCancel(ctx)
	defer booted()
	group.Go(func() error { return watchOwner(booting, os.Getppid()) })
	if r.OwnerPID != 0 {
		group.Go(func() error { return watchOwner(ctx, r.OwnerPID) })
	}
	group.Go(func() error {
		s, err := newSupervisor(r, logger, func(format string, args ...any) {
			tell(event{Progress: fmt.Sprintf(format, args...)})
		})
		if err != nil {
			return err
		}
		return s.run(ctx, func() {
			booted()
			tell(event{Up: true})
		})
	})
	return group.Wait()
}

// teller writes events; nobody may be listening any more.
func teller(w io.Writer) func(event) {
	var mu sync.Mutex
	encoder := json.NewEncoder(w)
	return func(e event) {
		mu.Lock()
		defer mu.Unlock()
		_ = encoder.Encode(e)
	}
}

// errOwner ends a testbed whose owner has gone.
var errOwner = errors.New("the owner is gone")

// watchOwner returns errOwner when process pid ends, nil when ctx does.
func watchOwner(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return errOwner
	}
	// A file of the runtime's poller: waiting costs no thread and no wake-ups.
	file := os.NewFile(uintptr(fd), "pidfd")
	defer file.Close()
	ended := make(chan struct{})
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	go func() {
		defer close(ended)
		_ = raw.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return err == nil && n > 0
		})
	}()
	select {
	case <-ended:
		return errOwner
	case <-ctx.Done():
		_ = file.Close()
		<-ended
		return nil
	}
}

// remove ends and deletes everything of the testbed in dir; the logs stay if they are
// needed to see what went wrong.
func remove(ctx context.Context, dir string, existed, keepLogs bool) error {
	if err := errors.Join(lan.Remove(ctx, lan.ID(dir)), removeRouters(lan.ID(dir))); err != nil {
		return err
	}
	if keepLogs {
		return removeFiles(dir, logsDir, optionsFile)
	}
	if !existed {
		return os.RemoveAll(dir)
	}
	return removeFiles(dir)
}

// removeFiles empties dir but for the names to keep.
func removeFiles(dir string, keep ...string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, name := range keep {
		kept[name] = true
	}
	for _, e := range entries {
		if kept[e.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// EventPipe is what a supervisor that Up has started writes its events to. The
// processes it starts do not inherit it.
func EventPipe() io.WriteCloser {
	const fd = 3
	unix.CloseOnExec(fd)
	return os.NewFile(fd, "events")
}
