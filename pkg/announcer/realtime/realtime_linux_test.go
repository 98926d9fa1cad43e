package realtime

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/internal/need"
)

// The test binary is also the process whose threads are looked at: the tests' own stay as they are.
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
type scheduling struct {
	Policy uint32
	Nice   int32
}

var (
	anyNice     = scheduling{Policy: unix.SCHED_NORMAL, Nice: niceMost}
	anyDeadline = scheduling{Policy: unix.SCHED_DEADLINE}
)

// life is what such a process saw of its threads.
type life struct {
	Class   Class
	Problem string
	// Fast is the scheduling of the thread that was hastened, Others that of all others, and Relaxed
	// that of all after Relax.
	Fast            scheduling
	Others, Relaxed map[string]int
	// Share is what the hastened thread took of a core while it looped.
	Share float64
}

// crowd is how many threads are made before and after one is hastened.
const crowd = 8

// live is the life of that process.
func live() (l life) {
	must(Share())
	more, end := threads()
	defer end()
	more()
	thread := NewThread(true, func(class Class, err error) {
		if l.Class = class; err != nil {
			l.Problem = err.Error()
		}
	})
	loop, err := NewLoop(thread)
	must(err)
	defer loop.Close()
	steps := make(chan func())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		loop.Begin()
		loop.Hasten()
		for step := range steps {
			step()
		}
	}()
	steps <- func() {
		go func() {
			//lint:ignore SA5002 it is to spin: of the collector and of all other goroutines it is one
			for {
			}
		}()
	}
	more()
	for range 1 << 10 {
		_ = make([]byte, 64<<10)
	}
	steps <- func() { l.Fast, l.Others = of(unix.Gettid()), except(unix.Gettid()) }
	steps <- func() { l.Share = loops(2 * time.Second) }
	steps <- func() { loop.Relax(); l.Relaxed = except(0) }
	close(steps)
	<-ended
	return l
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// threads returns what makes a crowd of threads and returns when they are there, and what ends all.
func threads() (more, end func()) {
	var running sync.WaitGroup
	hold := make(chan struct{})
	return func() {
		var there sync.WaitGroup
		for range crowd {
			there.Add(1)
			running.Go(func() {
				runtime.LockOSThread()
				there.Done()
				<-hold
			})
		}
		there.Wait()
	}, func() { close(hold); running.Wait() }
}

// loops has the thread compute for a while, without a pause in which it could do anything about
// it, and returns its share of a core.
func loops(how time.Duration) float64 {
	began, used := readClock(unix.CLOCK_MONOTONIC), readClock(unix.CLOCK_THREAD_CPUTIME_ID)
	for {
		if passed := readClock(unix.CLOCK_MONOTONIC) - began; passed >= how {
			return float64(readClock(unix.CLOCK_THREAD_CPUTIME_ID)-used) / float64(passed)
		}
	}
}

// of returns the scheduling of a thread.
func of(id int) scheduling {
	s, err := unix.SchedGetAttr(id, 0)
	must(err)
	return scheduling{s.Policy, s.Nice}
}

// except counts the threads of each scheduling, but for one.
func except(one int) map[string]int {
	all, err := os.ReadDir("/proc/self/task")
	must(err)
	out := map[string]int{}
	for _, t := range all {
		id, err := strconv.Atoi(t.Name())
		must(err)
		if id == one {
			continue
		}
		s, err := unix.SchedGetAttr(id, 0)
		if errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		must(err)
		out[name(scheduling{s.Policy, s.Nice})]++
	}
	return out
}

func name(s scheduling) string {
	text, err := json.Marshal(s)
	must(err)
	return string(text)
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

// only checks that there are at least so many threads, all normal ones of one nice value, none of
// which goes before others.
func only(t *testing.T, atLeast int, threads map[string]int) {
	t.Helper()
	require.Len(t, threads, 1, "%v", threads)
	for text, count := range threads {
		var s scheduling
		require.NoError(t, json.Unmarshal([]byte(text), &s))
		require.EqualValues(t, unix.SCHED_NORMAL, s.Policy)
		require.GreaterOrEqual(t, s.Nice, int32(0))
		require.GreaterOrEqual(t, count, atLeast)
	}
}

// One thread goes before others, and no other thread of the process, whenever and by
// whatever it is made, a goroutine that loops for ever included. What it may take is bounded.
func TestFault_K1_3_OneThreadGoesBeforeOthers(t *testing.T) {
	l := observe(t, nil)
	switch l.Class {
	case Normal:
		require.NotEmpty(t, l.Problem)
		need.Missing(t, "no thread goes before others here: "+l.Problem)
	case Nice: // Nothing but Guard bounds what it takes.
		require.NotEmpty(t, l.Problem)
		require.Equal(t, anyNice, l.Fast)
	case Deadline:
		require.Empty(t, l.Problem)
		require.Equal(t, anyDeadline, l.Fast)
		require.Less(t, l.Share, 0.2, "a thread that loops for ever takes a fifth of a core at most")
	}
	only(t, 2*crowd, l.Others)
	only(t, 2*crowd, l.Relaxed)
}

// Without the capability all threads are normal ones, and the error says why.
func TestFault_K1_3_WithoutTheCapability(t *testing.T) {
	var other *syscall.SysProcAttr
	if os.Geteuid() == 0 { // others have no capabilities anyway
		other = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	l := observe(t, other)
	require.Equal(t, Normal, l.Class)
	require.Contains(t, l.Problem, "lacks the capability SYS_NICE")
	require.EqualValues(t, unix.SCHED_NORMAL, l.Fast.Policy)
	only(t, 2*crowd, l.Others)
}

// A process that a CPU set keeps to some of the cores gets no deadline, and its nice value instead.
func TestFault_K1_3_WithACPUSet(t *testing.T) {
	need.Root(t, "CAP_SYS_NICE")
	if onlineCores() < 2 {
		need.Missing(t, "needs two cores")
	}
	var l life
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // The thread ends with the goroutine, and its children have its CPU set.
		var one unix.CPUSet
		one.Set(0)
		must(unix.SchedSetaffinity(0, &one))
		l = observe(t, nil)
	}()
	<-done
	require.Equal(t, Nice, l.Class)
	require.Contains(t, l.Problem, "a CPU set keeps the process to 1 of ")
	require.Equal(t, anyNice, l.Fast)
	only(t, 2*crowd, l.Others)
}

// A thread of class Nice, which the kernel does not bound, is made a normal one while it takes
// more than a fifth of a core, and for a while after that.
func TestFault_K1_3_Guard(t *testing.T) {
	var g guard
	now, used := time.Hour, time.Minute
	step := func(share float64) bool {
		now, used = now+guardEvery, used+time.Duration(share*float64(guardEvery))
		return g.checkShare(now, used)
	}
	for range 100 {
		require.False(t, step(0.15))
	}
	steps := 0
	for !step(1) {
		steps++
	}
	require.LessOrEqual(t, time.Duration(steps+1)*guardEvery, time.Second)
	for range 20 {
		require.True(t, step(1), "it goes on")
	}
	rest := time.Duration(0)
	for step(0) {
		rest += guardEvery
	}
	require.InDelta(t, guardRest, rest, float64(time.Second+guardEvery))
	require.LessOrEqual(t, len(g.looks), int(time.Second/guardEvery)+1)
}

// What is done in many short steps goes on as a normal thread for the rest of each period.
func TestFault_K1_3_LendsWhatItDoesNotHave(t *testing.T) {
	if _, err := try(t); err != nil {
		need.Missing(t, "no thread goes before others here: "+err.Error())
	}
	done := make(chan map[uint32]bool)
	go func() {
		thread := NewThread(true, func(Class, error) {})
		loop, err := NewLoop(thread)
		must(err)
		defer loop.Close()
		loop.Begin() // The thread ends with the goroutine.
		loop.Hasten()
		seen := map[uint32]bool{}
		for began := readClock(unix.CLOCK_THREAD_CPUTIME_ID); readClock(unix.CLOCK_THREAD_CPUTIME_ID) < began+10*Budget; {
			loop.Wait(0)
			seen[of(0).Policy] = true
		}
		done <- seen
	}()
	require.Equal(t, map[uint32]bool{unix.SCHED_NORMAL: true, unix.SCHED_DEADLINE: true}, <-done)
}

// TestFault_K1_3_SleepsAsWhatItIs: a thread that has used up what it has, and goes on as a normal one,
// must not wait for its turn when it wakes up. For the rest of the period it has no more than before.
func TestFault_K1_3_SleepsAsWhatItIs(t *testing.T) {
	class, err := try(t)
	if class == Normal {
		need.Missing(t, "no thread goes before others here: "+err.Error())
	}
	thread := NewThread(true, func(Class, error) {})
	loop, err := NewLoop(thread)
	require.NoError(t, err)
	defer loop.Close()
	id, lent, woken := make(chan int, 1), make(chan bool), make(chan scheduling)
	lend := func() { // Until it goes on as a normal one, and has some of the period before it.
		for !thread.lent || time.Until(thread.until) < Period/2 {
			loop.Wait(0)
		}
	}
	go func() {
		loop.Begin() // The thread ends with the goroutine.
		loop.Hasten()
		id <- unix.Gettid()
		lend()
		lent <- of(0).Policy == unix.SCHED_NORMAL
		loop.Wait(forEver)
		for range 100 { // On a busy machine a normal thread may wait for longer than the period goes on.
			lend()
			loop.Wait(time.Millisecond)
			if time.Now().Before(thread.until) {
				break
			}
		}
		woken <- of(0)
	}()
	tid := <-id
	require.True(t, <-lent)
	require.Eventually(t, func() bool { return of(tid) == map[Class]scheduling{Nice: anyNice, Deadline: anyDeadline}[class] }, time.Minute, time.Millisecond)
	loop.Wake()
	require.EqualValues(t, unix.SCHED_NORMAL, (<-woken).Policy)
}

// try returns the class that a thread of this process gets.
func try(t *testing.T) (class Class, err error) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // The thread ends with the goroutine.
		class, err = bestClass()
	}()
	<-done
	return class, err
}

// Timers of normal threads may be late, so that Go's monitor does not keep a process busy that
// rests; those of a thread that must be in time may not.
func TestFault_K1_3_Slack(t *testing.T) {
	need.Root(t, "CAP_SYS_NICE")
	of := func(id int) time.Duration {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(id) + "/timerslack_ns")
		require.NoError(t, err)
		ns, err := strconv.Atoi(strings.TrimSpace(string(text)))
		require.NoError(t, err)
		return time.Duration(ns)
	}
	require.NoError(t, Share())
	require.Equal(t, slack, of(os.Getpid()))
	done := make(chan time.Duration)
	go func() {
		loop, err := NewLoop(NewThread(false, nil))
		must(err)
		defer loop.Close()
		loop.Begin() // The thread ends with the goroutine.
		done <- of(unix.Gettid())
	}()
	require.Equal(t, precise, <-done)
}

func TestCountList(t *testing.T) {
	for text, want := range map[string]int{"0\n": 1, "0-3\n": 4, "0-1,4,6-7": 5, "": 0, "x": 0} {
		require.Equal(t, want, countList(text), text)
	}
}
