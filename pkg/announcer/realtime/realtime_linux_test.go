package realtime

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The test binary is also the process that becomes real-time: the tests' own shall not be.
func TestMain(m *testing.M) {
	if os.Getenv("REALTIME_TEST") != "" {
		if err := json.NewEncoder(os.Stdout).Encode(live()); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// scheduling is what the kernel says of a thread.
type scheduling struct{ Policy, Priority uint32 }

// life is what such a process saw of its threads.
type life struct {
	Before, Entered, Later, Left []scheduling
	// Problem is the error there was, and Denied says that Enter's was EPERM.
	Problem string
	Denied  bool
	// Yielded says that a thread went before another one that yielded was done.
	Yielded bool
}

// crowd is how many threads are made before, while and after the scheduling changes.
const crowd = 8

// live is the life of that process.
func live() (l life) {
	var threads sync.WaitGroup
	hold := make(chan struct{})
	defer threads.Wait()
	defer close(hold)
	// more makes threads and returns when they are there.
	more := func() {
		var there sync.WaitGroup
		for range crowd {
			there.Add(1)
			threads.Go(func() {
				runtime.LockOSThread()
				there.Done()
				<-hold
			})
		}
		there.Wait()
	}
	// amid does what while threads are made.
	amid := func(what func() error) error {
		making := make(chan struct{})
		go func() { defer close(making); more() }()
		err := what()
		<-making
		return err
	}
	more()
	l.Before = all()
	err := amid(Enter)
	l.Entered = all()
	if err != nil {
		l.Problem, l.Denied = err.Error(), errors.Is(err, unix.EPERM)
		return l
	}
	more()
	l.Later = all()
	l.Yielded = yields()
	if err := amid(Leave); err != nil {
		l.Problem = err.Error()
	}
	l.Left = all()
	return l
}

// steps is what a thread is done with long before the kernel takes the processor from it, if
// it does not yield.
const steps = 1_000_000

// yields has one thread take steps on a processor, and another one wait for it meanwhile.
func yields() (before bool) {
	var waits, went atomic.Bool
	var threads sync.WaitGroup
	threads.Go(func() {
		bind()
		threads.Go(func() {
			waits.Store(true)
			bind()
			went.Store(true)
		})
		for !waits.Load() {
			Yield()
		}
		for range steps {
			if before = went.Load(); before {
				return
			}
			Yield()
		}
	})
	threads.Wait()
	return before
}

// bind makes the goroutine a thread of its own, on the first processor there is.
func bind() {
	runtime.LockOSThread() // It ends with the goroutine.
	var all, first unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &all); err != nil {
		panic(err)
	}
	for cpu := 0; first.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			first.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &first); err != nil {
		panic(err)
	}
}

// all returns the scheduling of all threads.
func all() []scheduling {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		panic(err)
	}
	var out []scheduling
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			panic(err)
		}
		s, err := unix.SchedGetAttr(id, 0)
		if errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			panic(err)
		}
		out = append(out, scheduling{s.Policy, s.Priority})
	}
	return out
}

// observe runs a process, as another user if attributes say so.
func observe(t *testing.T, attributes *syscall.SysProcAttr) (l life) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), "REALTIME_TEST=1")
	cmd.SysProcAttr, cmd.Stderr = attributes, os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(out, &l))
	return l
}

// are checks the scheduling of at least so many threads.
func are(t *testing.T, want scheduling, atLeast int, threads []scheduling) {
	t.Helper()
	require.GreaterOrEqual(t, len(threads), atLeast)
	for _, s := range threads {
		require.Equal(t, want, s)
	}
}

var normal = scheduling{Policy: unix.SCHED_NORMAL}

func TestAllThreads(t *testing.T) {
	l := observe(t, nil)
	if l.Denied {
		t.Skip("nothing becomes real-time here, which needs CAP_SYS_NICE and a cgroup that allows it: " + l.Problem)
	}
	require.Empty(t, l.Problem)
	realtime := scheduling{Policy: unix.SCHED_RR, Priority: 1}
	are(t, normal, crowd, l.Before)
	are(t, realtime, 2*crowd, l.Entered)
	are(t, realtime, 3*crowd, l.Later)
	are(t, normal, 4*crowd, l.Left)
	require.True(t, l.Yielded)
}

// Without the capability nothing has changed, and the error says so.
func TestDenied(t *testing.T) {
	var nobody *syscall.SysProcAttr
	if os.Geteuid() == 0 { // others have no capabilities anyway
		nobody = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	l := observe(t, nobody)
	require.True(t, l.Denied, l.Problem)
	are(t, normal, 2*crowd, l.Entered)
}
