package proc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Back-off between restarts. Like kubelet's the first one is at once. Kubelet then waits
// 10 s and up to five minutes; nobody here has so long.
const (
	firstBackoff = 0
	nextBackoff  = 500 * time.Millisecond
	maxBackoff   = 5 * time.Second
	// steady is how long a process has to run for its next failure to count as the first.
	steady = 10 * time.Second
)

// ErrStopped is the cause of an end that was asked for.
var ErrStopped = errors.New("stopped on request")

// Service keeps one program running. The exported fields are set before Run.
type Service struct {
	Name string
	// Command is asked before every start, so that files and addresses are current.
	Command func(ctx context.Context) (Command, error)
	// Log is the file that output is appended to.
	Log string
	// Grace is the time between SIGTERM and SIGKILL.
	Grace time.Duration
	// Changed is called, from Run's goroutine, after State has changed.
	Changed func()
	// Once, if set, reports whether the program is not started again after it has ended with
	// that exit code.
	Once    func(exitCode int) bool
	Logger  *slog.Logger
	Spawner *Spawner

	mu    sync.Mutex
	state State
	want  desire
	wake  chan struct{}
	again bool
}

// State is what a Service is doing.
type State struct {
	// PID is 0 while nothing runs.
	PID int
	// Started and Finished are those of the present or the last run.
	Started, Finished time.Time
	// ExitCode is the last run's, 128 + signal where a signal ended it.
	ExitCode int
	// Exits counts the runs that have ended.
	Exits int
	// Completed is set when the program has ended and is not started again.
	Completed bool
	// Waiting says why nothing runs, "" while something does.
	Waiting string
	// Message is the error that keeps it from starting, or "".
	Message string
}

type desire int

const (
	wantRunning desire = iota
	wantHeld
)

// State returns the present state.
func (s *Service) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Hold ends the program and keeps it from being started again, and waits until it is
// gone.
func (s *Service) Hold(ctx context.Context) error {
	s.set(wantHeld)
	return s.until(ctx, func(st State) bool { return st.PID == 0 })
}

// Release lets a held program start again.
func (s *Service) Release() { s.set(wantRunning) }

// SetHeld makes a Service that has not been run yet start out held.
func (s *Service) SetHeld() { s.set(wantHeld) }

// SetGrace replaces Grace while the Service runs.
func (s *Service) SetGrace(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Grace = d
}

func (s *Service) patience() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Grace
}

// Restart ends the program; it is started again at once.
func (s *Service) Restart() {
	s.mu.Lock()
	s.again = true
	s.mu.Unlock()
	s.poke()
}

// WaitRunning waits until the program runs.
func (s *Service) WaitRunning(ctx context.Context) error {
	return s.until(ctx, func(st State) bool { return st.PID != 0 })
}

func (s *Service) until(ctx context.Context, ok func(State) bool) error {
	for !ok(s.State()) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", s.Name, context.Cause(ctx))
		}
	}
	return nil
}

func (s *Service) set(d desire) {
	s.mu.Lock()
	s.want = d
	s.mu.Unlock()
	s.poke()
}

func (s *Service) poke() {
	select {
	case s.waker() <- struct{}{}:
	default:
	}
}

func (s *Service) waker() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
	return s.wake
}

func (s *Service) held() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want == wantHeld
}

// takeRestart reports whether a restart was asked for, and forgets it.
func (s *Service) takeRestart() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.again
	s.again = false
	return asked
}

func (s *Service) update(f func(*State)) {
	s.mu.Lock()
	f(&s.state)
	s.mu.Unlock()
	if s.Changed != nil {
		s.Changed()
	}
}

// Run keeps the program running until ctx ends, and then ends it, or until Once has had enough.
func (s *Service) Run(ctx context.Context) error {
	backoff := time.Duration(firstBackoff)
	for ctx.Err() == nil {
		if s.held() {
			s.update(func(st *State) { st.Waiting = "Held" })
			s.sleep(ctx, time.Hour)
			continue
		}
		s.takeRestart()
		began, exits := time.Now(), s.State().Exits
		err := s.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, ErrStopped) {
			backoff = firstBackoff
			continue
		}
		if st := s.State(); st.Exits > exits && s.Once != nil && s.Once(st.ExitCode) {
			s.update(func(st *State) { st.Completed = true })
			return nil
		}
		if time.Since(began) > steady {
			backoff = firstBackoff
		}
		s.Logger.Warn("process ended", "process", s.Name, "err", err, "again in", backoff)
		s.update(func(st *State) { st.Waiting, st.Message = "CrashLoopBackOff", err.Error() })
		s.sleep(ctx, backoff)
		backoff = min(max(2*backoff, nextBackoff), maxBackoff)
	}
	return nil
}

// sleep waits for d, or until something was asked for.
func (s *Service) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.waker():
	case <-ctx.Done():
	}
}

// once runs the program until it ends or somebody wants it to.
func (s *Service) once(ctx context.Context) error {
	command, err := s.Command(ctx)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, err := s.Spawner.Start(ctx, command, log)
	if err != nil {
		return err
	}
	s.update(func(st *State) {
		st.PID, st.Started, st.Waiting, st.Message = cmd.Process.Pid, time.Now(), "", ""
	})
	err = s.attend(ctx, cmd)
	s.update(func(st *State) {
		st.PID, st.Finished, st.ExitCode = 0, time.Now(), exitCode(cmd.ProcessState)
		st.Exits++
	})
	return err
}

func (s *Service) attend(ctx context.Context, cmd *exec.Cmd) error {
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for {
		select {
		case err := <-exited:
			if err == nil {
				err = errors.New("exit status 0")
			}
			return err
		case <-ctx.Done():
			s.terminate(cmd, exited)
			return ErrStopped
		case <-s.waker():
			if s.held() || s.takeRestart() {
				s.terminate(cmd, exited)
				return ErrStopped
			}
		}
	}
}

// terminate asks first. The whole process group goes in the end, helpers included.
func (s *Service) terminate(cmd *exec.Cmd, exited <-chan error) {
	pid := cmd.Process.Pid
	_ = syscall.Kill(pid, syscall.SIGTERM)
	timer := time.NewTimer(s.patience())
	defer timer.Stop()
	select {
	case <-exited:
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		return
	case <-timer.C:
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	<-exited
}

func exitCode(p *os.ProcessState) int {
	if p == nil {
		return -1
	}
	if status, ok := p.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.ExitCode()
}
