package bfd

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

const (
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
	// AdminDown says that the peer of a session that Set leaves out, or that ends with Run, is
	// told so, by three packets. It will not take the end for a failure. Otherwise it finds
	// out by silence.
	AdminDown bool
	// Loop, if not nil, is what Run waits by. Packets are read by Run then, on a thread that is not
	// kept waiting by others.
	Loop Loop
}

// Loop is what the owner waits by; *realtime.Loop is one. Wake may be called by anybody, the rest
// by the owner.
type Loop interface {
	// Begin makes the calling goroutine the owner, on a thread of its own. Hasten has that go
	// before others, and Relax no more.
	Begin()
	Hasten()
	Relax()
	// Add has Wait call ready whenever a socket has something, until Remove.
	Add(socket int, ready func()) error
	Remove(socket int)
	// Wait returns when a socket had something, after Wake, or after pause.
	Wait(pause time.Duration)
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
	wake    chan struct{} // of one; never closed

	// Of Run's goroutine only.
	timers queue
	// stale says that the sockets may not be those that the sessions need.
	stale    bool
	reopenAt time.Duration
	refused  string // why sockets could not be opened, as it was logged

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
	r := newRunner(options, nil, now)
	r.wire = newNetwork(r.poke, options.Loop)
	return r
}

func newRunner(options Options, w wire, now func() time.Duration) *Runner {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	return &Runner{
		reopenAt: protocol.Never,
		options:  options, log: options.Logger, wire: w, now: now, wake: make(chan struct{}, 1),
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
		c = c.normal()
		err := c.check()
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
	r.poke()
	return errors.Join(failures...)
}

// poke makes the owner look.
func (r *Runner) poke() {
	if r.options.Loop != nil {
		r.options.Loop.Wake()
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run keeps the sessions, in the calling thread's network namespace, until ctx is done. Then it
// tells the peers if the options say so, forgets all sessions and returns nil.
func (r *Runner) Run(ctx context.Context) error {
	defer r.wire.Close()
	wait, end := r.waiting()
	defer end()
	defer context.AfterFunc(ctx, r.poke)()
	leaving := false
	for pause, deadline := time.Duration(0), protocol.Never; ; {
		wait(pause)
		if !leaving && ctx.Err() != nil {
			leaving, deadline = true, r.now()+farewellTime
			_ = r.Set(nil)
		}
		next := min(r.turn(), deadline)
		if leaving && (r.ended() || r.now() >= deadline) {
			return nil
		}
		pause = max(next-r.now(), 0)
	}
}

// waiting returns how Run waits, and what ends that.
func (r *Runner) waiting() (wait func(time.Duration), end func()) {
	loop := r.options.Loop
	if loop == nil {
		return func(pause time.Duration) {
			select {
			case <-r.wake:
			case <-time.After(pause):
			}
		}, func() {}
	}
	loop.Begin()
	fast := false
	return func(pause time.Duration) {
		// Without sessions it is in no hurry, and leaves to others what the kernel has to grant.
		if busy := !r.ended(); busy != fast {
			if fast = busy; fast {
				loop.Hasten()
			} else {
				loop.Relax()
			}
		}
		loop.Wait(pause)
	}, loop.Close
}

// ended reports whether no session is left.
func (r *Runner) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)+len(r.leaving) == 0
}

// turn does what is to be done and returns when the next turn is due at the latest.
func (r *Runner) turn() time.Duration {
	next := r.work()
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

func (r *Runner) work() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted != nil {
		r.adopt(r.wanted)
		r.wanted = nil
	}
	now := r.now()
	r.open(now)
	r.takeIn(false)
	// However long ago the turn was due, nobody is called gone for what has not been read.
	drained := false
	for s := r.timers.due(now); s != nil; s = r.timers.due(now) {
		if !drained && s.machine.Silent(now) {
			r.takeIn(true)
			drained = true
			continue
		}
		r.step(s, protocol.Tick{Drained: now})
	}
	return min(r.timers.next(), r.reopenAt)
}

// takeIn gives what has arrived to its sessions: what was read, or everything.
func (r *Runner) takeIn(everything bool) {
	arrived, lost := r.wire.Receive(everything)
	for _, d := range arrived {
		r.receive(d)
	}
	if lost > 0 {
		r.dropped[errOverflow.Error()] += lost
	}
}

func (r *Runner) takeEvents() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

// adopt makes wanted the sessions that there are.
func (r *Runner) adopt(wanted map[Key]SessionConfig) {
	for key, s := range r.sessions {
		if _, stays := wanted[key]; !stays {
			r.leave(s)
		}
	}
	for key, c := range wanted {
		switch s := r.sessions[key]; {
		case s == nil:
			r.begin(c)
		case !s.config.same(c):
			s.config = c
			r.step(s, protocol.Configured{Config: c.protocol()})
		}
	}
}

// same reports whether two entries of one key say the same.
func (c SessionConfig) same(other SessionConfig) bool {
	return c.protocol() == other.protocol() && c.MinimumTTL == other.MinimumTTL
}

// begin makes a new session.
func (r *Runner) begin(c SessionConfig) {
	if old := r.leaving[c.Key]; old != nil { // The peer is to hear one of them.
		r.forget(old)
	}
	discriminator := rand.Uint32()
	for discriminator == 0 || r.byDiscriminator[discriminator] != nil {
		discriminator = rand.Uint32()
	}
	s := &session{config: c, machine: protocol.New(c.protocol(), discriminator, rand.Uint32(), r.now()), since: time.Now(), dropped: map[string]uint64{}}
	r.sessions[c.Key], r.byDiscriminator[discriminator] = s, s
	r.byPeer[c.Peer] = append(r.byPeer[c.Peer], s)
	r.timers.add(s)
	r.stale = true
}

// leave ends a session, at once if the peer is not to hear of it.
func (r *Runner) leave(s *session) {
	delete(r.sessions, s.config.Key)
	if !r.options.AdminDown {
		r.forget(s)
		return
	}
	s.leaving = true
	r.leaving[s.config.Key] = s
	r.step(s, protocol.Left{})
}

// forget drops all that refers to a session.
func (r *Runner) forget(s *session) {
	if r.leaving[s.config.Key] == s {
		delete(r.leaving, s.config.Key)
	}
	delete(r.byDiscriminator, s.machine.Status().Discriminator)
	if others := slices.DeleteFunc(r.byPeer[s.config.Peer], func(other *session) bool { return other == s }); len(others) > 0 {
		r.byPeer[s.config.Peer] = others
	} else {
		delete(r.byPeer, s.config.Peer)
	}
	r.timers.remove(s)
	r.stale = true
}

// step tells a session what happened, and does what follows.
func (r *Runner) step(s *session, e protocol.Event) {
	now := r.now()
	before := s.machine.Status().State
	var effects protocol.Effects
	s.machine, effects = s.machine.Step(e, now, rand.Float64())
	if effects.Dropped != nil {
		s.dropped[effects.Dropped.Error()]++
	}
	if effects.Send != nil {
		r.send(s, effects.Send)
	}
	if effects.Changed && !s.leaving {
		s.since = time.Now()
		s.count(before)
		r.events = append(r.events, s.event(before))
	}
	if s.leaving && s.machine.Done() {
		r.forget(s)
		return
	}
	r.timers.fix(s)
}

// errScope is why a packet is not sent.
var errScope = errors.New("the only usable address is not of the peer's scope, link-local or global")

func (r *Runner) send(s *session, octets []byte) {
	o := outgoing{socket: s.config.socket(), to: s.config.Peer, octets: octets}
	if s.problem = r.route(s, &o); s.problem == nil {
		s.problem = r.wire.Send(o)
	}
	if s.problem != nil {
		s.unsent++
		return
	}
	s.sent++
}

// route says where a packet of s leaves, and from which address. Where the configuration does
// not give one, it is what the kernel has for the peer now, and stays while the session does.
func (r *Runner) route(s *session, o *outgoing) (err error) {
	if s.config.Interface != "" {
		if o.index, err = r.wire.Index(s.config.Interface); err != nil {
			return err
		}
	}
	if o.from = s.config.Local; o.from.IsValid() {
		return nil
	}
	if !s.source.IsValid() || s.machine.Status().State == Down {
		source, err := r.wire.Source(o.to, o.index)
		if err != nil {
			return err
		}
		if !sameScope(source, o.to) {
			return errScope
		}
		s.source = source
	}
	o.from = s.source
	return nil
}

// open makes the sockets that the sessions need the open ones.
func (r *Runner) open(now time.Duration) {
	if r.wire.Broken() {
		r.reopenAt = min(r.reopenAt, now+reopenAfter)
	}
	if !r.stale && now < r.reopenAt {
		return
	}
	wanted := map[socket]bool{}
	for _, all := range []map[Key]*session{r.sessions, r.leaving} {
		for key := range all {
			wanted[key.socket()] = true
		}
	}
	r.stale, r.reopenAt = false, protocol.Never
	reason := ""
	if err := r.wire.Open(wanted); err != nil {
		reason, r.reopenAt = err.Error(), now+reopenAfter
	}
	if reason != r.refused {
		if r.refused = reason; reason != "" {
			r.log.Warn("BFD sessions wait for their sockets", "err", reason)
		}
	}
}
