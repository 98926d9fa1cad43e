package testbed

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// Up boots a testbed and returns once its nodes are Ready and every announcer has a
// plan. If it fails, or ctx ends before, nothing is left but the logs of a failure.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a testbed makes network namespaces and needs root")
	}
	if err := checkPrograms(); err != nil {
		return nil, err
	}
	if err := BuildOwn(ctx, o.BinDir); err != nil {
		return nil, err
	}
	existed, err := claim(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := (record{Options: o, Existed: existed}).write(); err != nil {
		return nil, err
	}
	began := time.Now()
	progress := func(text string) {
		fmt.Fprintf(o.Progress, "testbed %4.1fs  %s\n", time.Since(began).Seconds(), text)
	}
	if err := startSupervisor(ctx, o, progress); err != nil {
		if ctx.Err() != nil {
			return nil, errors.Join(err, Down(context.WithoutCancel(ctx), o.Dir))
		}
		return nil, fmt.Errorf("the testbed did not come up: %w; logs are in %s", err, filepath.Join(o.Dir, logsDir))
	}
	progress("up; see " + filepath.Join(o.Dir, envFile))
	return Attach(o.Dir)
}

// claim makes the directory and checks that it is free to use.
func claim(dir string) (existed bool, err error) {
	entries, err := os.ReadDir(dir)
	switch {
	case err == nil && len(entries) > 0:
		return true, fmt.Errorf("%s is not empty; if a testbed was there, take it down first", dir)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return false, err
	}
	existed = err == nil
	left, err := netns.List(lan.Prefix(lan.ID(dir)))
	if err != nil {
		return existed, err
	}
	if len(left) > 0 {
		return existed, fmt.Errorf("network namespaces of an earlier testbed in %s are left; take it down first", dir)
	}
	return existed, os.MkdirAll(filepath.Join(dir, logsDir), 0o755)
}

// startSupervisor starts the process that owns the testbed, in a session of its own so
// that it survives its terminal, and follows the boot.
func startSupervisor(ctx context.Context, o Options, progress func(string)) error {
	repo, err := Repository()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(o.Dir, logsDir, "supervisor.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	events, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer events.Close()
	cmd := exec.Command(filepath.Join(o.BinDir, "testbed"), "supervise", "--dir="+o.Dir)
	cmd.Dir = repo
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{writer}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = errors.Join(cmd.Start(), writer.Close())
	if err != nil {
		return err
	}
	// Reaped by whoever inherits it; here only if it ends early.
	go func() { _ = cmd.Wait() }()
	stop := context.AfterFunc(ctx, func() { _ = events.Close() })
	defer stop()
	if err := follow(events, progress); err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return nil
}

// follow reads events until the testbed is up or has failed.
func follow(events io.Reader, progress func(string)) error {
	scanner := bufio.NewScanner(events)
	for scanner.Scan() {
		var e event
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			return fmt.Errorf("unexpected line %q from the supervisor: %w", scanner.Text(), err)
		}
		switch {
		case e.Up:
			return nil
		case e.Error != "":
			return errors.New(e.Error)
		}
		progress(e.Progress)
	}
	return errors.New("the supervisor ended early")
}

// Down removes every trace of the testbed in dir. It is no error if there is none, or
// only half of one.
func Down(ctx context.Context, dir string) error {
	dir, err := realPath(dir)
	if err != nil {
		return err
	}
	id := lan.ID(dir)
	r, readErr := readRecord(dir)
	// Nobody may be there to take the order, or end over it: what counts is whether the
	// supervisor is gone afterwards.
	_ = order(ctx, id, "down", "")
	if err := supervisorGone(ctx, dir, r.Supervisor); err != nil {
		return err
	}
	if readErr != nil {
		// Nothing says that the files here are a testbed's.
		return errors.Join(lan.Remove(ctx, id), removeRouters(id))
	}
	return remove(ctx, dir, r.Existed, false)
}

// supervisorGone waits until the supervisor has ended; one that does not is killed,
// and its children with it.
func supervisorGone(ctx context.Context, dir string, pid int) error {
	patience := time.Now().Add(20 * time.Second)
	for isSupervisor(pid, dir) {
		if time.Now().After(patience) {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// isSupervisor guards against a process ID that has been used again.
func isSupervisor(pid int, dir string) bool {
	if pid == 0 {
		return false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(line), "\x00supervise\x00--dir="+dir+"\x00")
}
