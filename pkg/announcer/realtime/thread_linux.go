// Package realtime keeps a thread in time on a busy machine, and the machine safe from it. The
// announcer is a process that others watch: kept from the processor for a few hundred
// milliseconds it is dead to them, whatever it would have said.
package realtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Budget is how much of each Period a thread of class Deadline goes before others. The kernel
	// keeps it from the processor once it has used that up, so that whatever goes wrong in
	// it leaves the rest to others: two such threads take a fifth of a core at most.
	Budget = 5 * time.Millisecond
	Period = 50 * time.Millisecond
	// lendAt is what of its budget a thread uses up before it goes on as a normal one for the
	// rest of the period. Work that does not end soon takes what is idle then, and the kernel
	// need not stop it.
	lendAt = Budget * 4 / 5
	// guardEvery is how often a thread of class Nice is looked at, guardMost the share of
	// a core that it may take, and guardRest how long it is a normal one if it took more.
	guardEvery = 250 * time.Millisecond
	guardMost  = 0.2
	guardRest  = 10 * time.Second
	// slice is what normal threads of the process run for at a time when others want the
	// processor. It gives them no larger share, but their turn sooner (Linux 6.12): the
	// collector's and the runtime's own threads hold things that the others wait for.
	slice = 100 * time.Microsecond
	// slack is how late a timer of a normal thread may be, so that it can wait for others. Go's
	// monitor wakes up fifty times after each pause of the process, by timers of 20 µs: with the
	// usual slack, of 50 µs, it takes as much of a process at rest as all the rest.
	slack = 4 * time.Millisecond
	// precise is the slack of a thread that must not be late, and the usual one.
	precise = 50 * time.Microsecond
	// niceMost goes before all other normal threads of the same CPU group.
	niceMost = -20
)

// Class is what the kernel gives a thread.
type Class int32

// The classes, the best last.
const (
	// Normal is the scheduling that all processes begin with.
	Normal Class = iota
	// Nice is normal scheduling with the best nice value.
	Nice
	// Deadline is SCHED_DEADLINE: the thread goes before others as long as it has budget.
	Deadline
)

// String returns the class as the value of a metric label.
func (c Class) String() string {
	return [...]string{"normal", "nice", "deadline"}[c]
}

// Classes returns all of them.
func Classes() []Class { return []Class{Normal, Nice, Deadline} }

// deadline is what a thread of class Deadline has, and nice one of class Nice. The threads that it
// makes are normal ones.
var (
	deadline = unix.SchedAttr{
		Policy: unix.SCHED_DEADLINE, Flags: unix.SCHED_FLAG_RESET_ON_FORK,
		Runtime: uint64(Budget), Deadline: uint64(Period), Period: uint64(Period),
	}
	nice = unix.SchedAttr{Policy: unix.SCHED_NORMAL, Flags: unix.SCHED_FLAG_RESET_ON_FORK, Nice: niceMost, Runtime: uint64(slice)}
)

// normal is normal scheduling with a short slice, which needs no capability.
var normal = unix.SchedAttr{Policy: unix.SCHED_NORMAL, Runtime: uint64(slice)}

func setScheduling(thread int, want unix.SchedAttr) error {
	want.Size = unix.SizeofSchedAttr
	return unix.SchedSetAttr(thread, &want, 0)
}

// Thread is a thread that must not be late. Any goroutine may call Class, one goroutine Guard,
// and the rest only the goroutine that is locked to the thread.
type Thread struct {
	// granted takes the class that the kernel granted, and why it is not Deadline.
	granted func(Class, error)
	wanted  bool
	id      atomic.Int64
	class   atomic.Int32
	// nice is what the thread had before.
	nice atomic.Int32
	// resting reports whether Guard made it a normal thread.
	resting atomic.Bool

	// until is when the present period ends, used how long the thread ran before it, and lent
	// reports that it goes on as a normal one until then.
	until time.Time
	used  time.Duration
	lent  bool
}

// NewThread returns a Thread that tells granted what the kernel gave it; one that is not wanted stays
// a normal one.
func NewThread(wanted bool, granted func(Class, error)) *Thread {
	return &Thread{wanted: wanted, granted: granted}
}

// Class returns what the kernel gave the thread.
func (t *Thread) Class() Class { return Class(t.class.Load()) }

// Hasten gives the calling thread the best class that the kernel grants.
func (t *Thread) Hasten() {
	if !t.wanted {
		return
	}
	t.id.Store(int64(unix.Gettid()))
	if now, err := unix.SchedGetAttr(0, 0); err == nil {
		t.nice.Store(now.Nice)
	}
	class, err := bestClass()
	t.class.Store(int32(class))
	t.granted(class, err)
}

// restThread makes the thread, by its number or 0 for the calling one, as normal as it was before.
func (t *Thread) restThread(id int) error {
	attr := normal
	attr.Nice = t.nice.Load()
	return setScheduling(id, attr)
}

// bestClass gives the calling thread the best class, and says why it is not Deadline.
func bestClass() (Class, error) {
	err := setScheduling(0, deadline)
	if err == nil {
		return Deadline, nil
	}
	why := explainDeadline(err)
	if setScheduling(0, nice) == nil {
		return Nice, why
	}
	return Normal, why
}

// Relax makes the thread a normal one.
func (t *Thread) Relax() {
	if t.Class() != Normal {
		_ = t.restThread(0) // Which the kernel does not refuse to one that it granted more.
	}
	t.class.Store(int32(Normal))
	t.lent = false
}

// ownAttr returns the thread's class as the kernel takes it.
func (t *Thread) ownAttr() unix.SchedAttr {
	if t.Class() == Nice {
		return nice
	}
	return deadline
}

// beforeWait is called whenever the thread is about to wait, be it for nothing, and reports whether it
// goes on as a normal one: it has used much of its budget, and the period has not ended.
func (t *Thread) beforeWait() (lent bool) {
	if t.Class() == Normal {
		return false
	}
	now, used := time.Now(), readClock(unix.CLOCK_THREAD_CPUTIME_ID)
	switch {
	case !now.Before(t.until):
		t.regainClass()
		t.until, t.used = now.Add(Period), used
	case !t.lent && used >= t.used+lendAt:
		t.lent = t.restThread(0) == nil
	}
	return t.lent
}

// regainClass makes a thread what it was before it went on as a normal one.
func (t *Thread) regainClass() {
	if t.lent && !t.resting.Load() && setScheduling(0, t.ownAttr()) == nil {
		t.lent = false
	}
}

// afterWake is called when a thread wakes up that went to sleep after regain. In what is left of the
// period it has no more than before.
func (t *Thread) afterWake() {
	if !t.lent && time.Now().Before(t.until) {
		t.lent = t.restThread(0) == nil
	}
}

// Guard watches a thread of class Nice until ctx ends: it makes it a normal one for a while if it takes too
// much. Of class Deadline the kernel does that by itself.
func (t *Thread) Guard(ctx context.Context, log *slog.Logger) error {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	var g guard
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if t.Class() != Nice {
			continue
		}
		id := int(t.id.Load())
		rest := g.checkShare(readClock(unix.CLOCK_MONOTONIC), threadTime(id))
		if rest == t.resting.Load() {
			continue
		}
		t.resting.Store(rest)
		if rest {
			log.Warn("thread takes too much processor time; it does not go before others for a while", "share", g.share, "limit", guardMost, "rest", guardRest)
			_ = t.restThread(id)
		} else {
			_ = setScheduling(id, nice)
		}
	}
}

// guard decides whether a thread takes too much.
type guard struct {
	// looks are the last looks, a second of them.
	looks []look
	until time.Duration
	share float64
}

type look struct{ at, used time.Duration }

// checkShare takes how long the thread ran so far, and reports whether to make it a normal one.
func (g *guard) checkShare(now, used time.Duration) bool {
	g.looks = append(g.looks, look{now, used})
	if most := int(time.Second/guardEvery) + 1; len(g.looks) > most {
		g.looks = g.looks[1:]
	}
	first := g.looks[0]
	if passed := now - first.at; passed >= time.Second/2 {
		g.share = float64(used-first.used) / float64(passed)
		if g.share > guardMost {
			g.until = now + guardRest
		}
	}
	return now < g.until
}

// readClock reads one of the kernel's clocks.
func readClock(id int32) time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(id, &ts) // There are these.
	return time.Duration(ts.Nano())
}

// threadTime returns how long a thread of the process ran; 0 once it has ended.
func threadTime(id int) time.Duration {
	const perThread, scheduled = 4, 2 // See clock_getcpuclockid(3) and the kernel's posix-timers.h.
	return readClock(int32(^id<<3 | perThread | scheduled))
}

// Share gives the threads that there are, and those that they will make, a short slice at
// normal scheduling, and timers that may be late. A process begins with the scheduling of the
// one that started it.
func Share() error {
	return eachThread(func(id int) error {
		if err := unnice(id, normal); err != nil {
			return err
		}
		// The kernel keeps no slack for a thread that is not a normal one yet. Where it lacks the
		// capability for this the process takes a little more when it rests.
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/timerslack_ns", id), strconv.AppendInt(nil, int64(slack), 10), 0)
		return nil
	})
}

// Leave gives all threads of the process what processes have that nothing was said about.
func Leave() error {
	return eachThread(func(id int) error { return unnice(id, unix.SchedAttr{Policy: unix.SCHED_NORMAL}) })
}

// unnice gives a thread want, but for its nice value: to lower that takes a capability.
func unnice(id int, want unix.SchedAttr) error {
	now, err := unix.SchedGetAttr(id, 0)
	if err != nil {
		return err
	}
	want.Nice = now.Nice
	return setScheduling(id, want)
}

// eachThread calls f with each thread of the process.
func eachThread(f func(id int) error) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err == nil {
			err = f(id)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) { // that one has ended
			return fmt.Errorf("set the scheduling of all threads: %w", err)
		}
	}
	return nil
}

// Processors are how many threads of the program may run Go code at a time where the machine has so many
// cores. There are more than those: a thread of class Deadline that comes back from the kernel
// never waits then for a normal one that has what it needs and does not run.
func Processors(cores int) int { return cores + spareProcessors }

const spareProcessors = 4

// explainDeadline says why the kernel refused class Deadline, as far as can be found out.
func explainDeadline(err error) error {
	const refused = "the kernel refused SCHED_DEADLINE: %w: "
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf(refused+"other threads have reserved what kernel.sched_rt_runtime_us allows", err)
	case !errors.Is(err, unix.EPERM):
		return fmt.Errorf("the kernel refused SCHED_DEADLINE: %w", err)
	case !hasSysNice():
		return fmt.Errorf(refused+"the container lacks the capability SYS_NICE", err)
	}
	var allowed unix.CPUSet
	if failed := unix.SchedGetaffinity(0, &allowed); failed == nil && allowed.Count() < onlineCores() {
		return fmt.Errorf(refused+"a CPU set keeps the process to %d of %d cores", err, allowed.Count(), onlineCores())
	}
	return fmt.Errorf(refused+"not for the lack of the capability SYS_NICE; a CPU set or a filter of system calls may be why", err)
}

// hasSysNice reports whether the thread has the capability SYS_NICE.
func hasSysNice() bool {
	var data [2]unix.CapUserData
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_SYS_NICE) != 0
}

// onlineCores returns how many cores the machine has in use.
func onlineCores() int {
	text, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return runtime.NumCPU()
	}
	return countList(string(text))
}
