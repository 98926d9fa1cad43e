package bfd

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

const (
	// turnRate is how many turns a second are as soon as something happens, and turnBurst how many at
	// once. Beyond that a turn is late by maxNap, or by a share of the shortest interval, if that is less.
	turnRate  = 250
	turnBurst = 50
	maxNap    = 2 * time.Millisecond
	napShare  = 20
	// reopenAfter is how long to wait before a socket that could not be opened is tried again.
	reopenAfter = time.Second
	// farewellTime is the longest that Run goes on after its context, to tell peers.
	farewellTime = time.Second
)

// Options are what a Runner needs.
type Options struct {
	// Logger takes what an operator should know; nil discards it.
	Logger *slog.Logger
	// OnEvent, if not nil, takes every change of a session's state, in order. It is called by
	// the goroutine that keeps the sessions alive and must not block.
	OnEvent func(Event)
	// AdminDown reports whether the peer of a session that Set leaves out, or that ends with Run,
	// hears so, by three packets. It will not take the end for a failure. Otherwise it finds out by
	// silence.
	AdminDown bool
	// Loop is what Run waits by, and reads packets when it says so. Run closes it.
	Loop Loop
}

// Loop is what the owner waits by; *realtime.Loop is one. Any goroutine may call Wake, and the
// owner the rest.
type Loop interface {
	// Begin makes the calling goroutine the owner, on a thread of its own. Hasten makes that go
	// before others, and Relax no more.
	Begin()
	Hasten()
	Relax()
	// Add has Wait call ready whenever a socket has something, until Remove, and not during a Pause.
	Add(socket int, ready func()) error
	Pause(socket int, how time.Duration)
	Remove(socket int)
	// Wait returns when a socket had something, after Wake, or after pause, and Nap after that long
	// whatever happens.
	Wait(pause time.Duration)
	Nap(how time.Duration)
	Wake()
	Close()
}

// Event is that a session's state changed.
type Event struct {
	Key
	State, Previous State
	// RemoteState is the last that the peer said of its own.
	RemoteState                  State
	Diagnostic, RemoteDiagnostic Diagnostic
	Since                        time.Time
}

// Failure reports whether the path was Up and failed: neither side took the session down on
// purpose (RFC 5882 §4.2).
func (e Event) Failure() bool {
	return e.Previous == Up && e.RemoteState != AdminDown && e.State != AdminDown
}

// Runner keeps sessions. Set, Sessions and Dropped may be called from any goroutine.
type Runner struct {
	options Options
	log     *slog.Logger
	wire    wire
	now     func() time.Duration

	// Of Run's goroutine only.
	timers queue
	// stale reports whether the sockets may not be those that the sessions need.
	stale    bool
	reopenAt time.Duration
	refused  string // why sockets could not be opened, as it was logged
	hurried  bool   // whether the thread goes before others
	turns    *rate.Limiter
	// nap is how long a turn may be late.
	nap time.Duration

	mu sync.Mutex
	// wanted is what Set said last and Run has not seen, nil for nothing.
	wanted   map[Key]SessionConfig
	sessions map[Key]*session
	// leaving are sessions that tell their peers that they end.
	leaving         map[Key]*session
	byDiscriminator map[uint32]*session
	byPeer          map[netip.Addr][]*session
	dropped         map[string]uint64
	events          []Event
}

// New returns a Runner that does nothing until Run.
func New(options Options) *Runner {
	return newRunner(options, newNetwork(options.Loop), now)
}

func newRunner(options Options, w wire, now func() time.Duration) *Runner {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	return &Runner{
		reopenAt: protocol.Never,
		options:  options, log: options.Logger, wire: w, now: now, turns: rate.NewLimiter(turnRate, turnBurst),
		sessions: map[Key]*session{}, leaving: map[Key]*session{}, byDiscriminator: map[uint32]*session{},
		byPeer: map[netip.Addr][]*session{}, dropped: map[string]uint64{},
	}
}

// Set makes configs the whole list of sessions. Those that cannot work are left out, and the
// error names each. It never waits; Run carries it out.
func (r *Runner) Set(configs []SessionConfig) error {
	wanted := make(map[Key]SessionConfig, len(configs))
	var failures []error
	for _, c := range configs {
		c = c.normalized()
		err := c.checkConfig()
		if _, twice := wanted[c.Key]; twice && err == nil {
			err = errors.New("BFD session with " + c.Name() + " is there twice")
		}
		if err != nil {
			failures = append(failures, err)
			continue
		}
		wanted[c.Key] = c
	}
	r.mu.Lock()
	r.wanted = wanted
	r.mu.Unlock()
	r.wakeOwner()
	return errors.Join(failures...)
}

// wakeOwner makes the owner look.
func (r *Runner) wakeOwner() {
	if r.options.Loop != nil {
		r.options.Loop.Wake()
	}
}

// Run keeps the sessions, in the calling thread's network namespace, until ctx is done. Then it
// tells the peers if the options say so, forgets all sessions and returns nil.
func (r *Runner) Run(ctx context.Context) error {
	defer r.options.Loop.Close()
	defer r.wire.Close()
	r.options.Loop.Begin()
	defer context.AfterFunc(ctx, r.wakeOwner)()
	leaving := false
	for pause, deadline := time.Duration(0), protocol.Never; ; {
		r.awaitEvents(pause)
		if !leaving && ctx.Err() != nil {
			leaving, deadline = true, r.now()+farewellTime
			_ = r.Set(nil)
		}
		next := min(r.stepAll(), deadline)
		if leaving && (r.hasEnded() || r.now() >= deadline) {
			return nil
		}
		pause = max(next-r.now(), 0)
	}
}

// awaitEvents waits for what happens. Where very much does, it waits a moment longer and does all of it in
// one turn: to wake up costs more than to send or to read a packet. When a packet came the kernel
// says, so that no peer is called gone for that.
func (r *Runner) awaitEvents(pause time.Duration) {
	// Without sessions it is in no hurry, and leaves to others what the kernel has to grant.
	if busy := !r.hasEnded(); busy != r.hurried {
		if r.hurried = busy; busy {
			r.options.Loop.Hasten()
		} else {
			r.options.Loop.Relax()
		}
	}
	if !r.turns.AllowN(time.Time{}.Add(r.now()), 1) && r.nap > 0 {
		r.options.Loop.Nap(r.nap)
		pause = max(pause-r.nap, 0)
	}
	r.options.Loop.Wait(pause)
}

// hasEnded reports whether no session is left.
func (r *Runner) hasEnded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)+len(r.leaving) == 0
}

// stepAll does what is due and returns when the next turn is due at the latest.
func (r *Runner) stepAll() time.Duration {
	next := r.stepDue()
	for _, e := range r.takeEvents() {
		if e.Failure() {
			r.log.Warn("BFD session failed", "session", e.Name(), "state", e.State, "diagnostic", e.Diagnostic, "remoteState", e.RemoteState, "remoteDiagnostic", e.RemoteDiagnostic)
		} else {
			r.log.Info("BFD session changed", "session", e.Name(), "state", e.State, "diagnostic", e.Diagnostic, "remoteState", e.RemoteState, "remoteDiagnostic", e.RemoteDiagnostic)
		}
		if r.options.OnEvent != nil {
			r.options.OnEvent(e)
		}
	}
	return next
}

func (r *Runner) stepDue() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted != nil {
		r.setSessions(r.wanted)
		r.wanted = nil
	}
	r.openSockets(r.now())
	r.takeIn(false)
	// However long ago the turn was due, no peer is called gone for what has not been read.
	now, drained := r.now(), false
	for s := r.timers.firstDue(now); s != nil; s = r.timers.firstDue(now) {
		if !drained && s.machine.Silent(now) {
			r.takeIn(true)
			drained = true
			continue
		}
		r.stepSession(s, protocol.Tick{Drained: now}, now)
	}
	return min(r.timers.nextDue(), r.reopenAt)
}

// takeIn gives what has arrived to its sessions: what was read, or everything.
func (r *Runner) takeIn(everything bool) {
	arrived := r.wire.Receive(everything)
	if len(arrived) == 0 {
		return
	}
	now := r.now()
	for _, d := range arrived {
		r.receiveDatagram(d, now)
	}
}

func (r *Runner) takeEvents() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}
