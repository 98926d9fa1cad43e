package protocol

import (
	"math"
	"time"
)

// slowest is how often a session that is not Up may send at most (RFC 5880 §6.8.3).
const slowest = time.Second

// Config is what a session does.
type Config struct {
	// DesiredMinTx is the least time between two packets that we would like to send, and
	// RequiredMinRx between two that we are able to receive. Of each pair of ours and the
	// peer's the longer one holds. A session that is not Up sends once a second at most.
	DesiredMinTx, RequiredMinRx time.Duration
	// DetectMultiplier is how many packets in a row the peer must miss to call us gone.
	DetectMultiplier uint8
	// Auth is without a Type where packets are not authenticated.
	Auth Auth
}

// Session is one end of a session. It begins Down, and in the active role: it sends at once.
//
// All times are of one clock that cannot be set and that goes on while the machine sleeps.
type Session struct {
	config        Config
	discriminator uint32

	state      State
	diagnostic Diagnostic
	since      time.Duration
	remote     remote

	// heard is when a packet counted last, and known reports that one did since the peer was
	// given up.
	heard time.Duration
	known bool
	// sequenceKnown reports whether receivedSequence is the last sequence number that counted. It
	// is forgotten at forget, which is the time of two detection times without a packet.
	sequenceKnown    bool
	receivedSequence uint32
	forget           time.Duration

	// advertised is what packets say, used what holds until the peer has confirmed it.
	advertised, used timers
	poll             poll

	// began is when the last periodic packet was due, periodicAt when it went out, and share
	// how much of the interval the next one waits from when that was due.
	began, periodicAt time.Duration
	share             float64
	// sent is the last packet, of any kind, and sequence its sequence number.
	sent     Packet
	sequence uint32
	// farewells is how many packets said that the session is administratively down.
	farewells int
}

// remote is what the peer said last (RFC 5880 §6.8.1).
type remote struct {
	state         State
	diagnostic    Diagnostic
	discriminator uint32
	minTx, minRx  time.Duration
	multiplier    uint8
	demand        bool
}

// unheard is what is held of a peer that was not heard: it takes whatever we send.
var unheard = remote{state: Down, minRx: time.Microsecond}

// New returns a session that has just begun, under a discriminator that is not zero and of
// this session only, and a random first sequence number.
func New(c Config, discriminator, sequence uint32, now time.Duration) Session {
	s := Session{config: c, discriminator: discriminator, sequence: sequence, state: Down, since: now, began: now, remote: unheard}
	s.advertised = s.wantedTimers()
	s.used = s.advertised
	s.periodicAt = now - s.Interval() // So that the first is due at once.
	return s
}

// Event is something that happens to a session: one of the types below.
type Event interface{ event() }

type (
	// Tick means that time has passed, and that every packet that had come until Drained
	// was stepped. Before that time nothing can be said of the peer's silence.
	Tick struct{ Drained time.Duration }
	// Received is a packet of the peer that came At a time not after now.
	Received struct {
		Packet Packet
		At     time.Duration
	}
	// Configured is a new configuration. It does not interrupt the session.
	Configured struct{ Config Config }
	// Left means that the session must end, and that the peer must hear that it ends on purpose.
	Left struct{}
)

func (Tick) event()       {}
func (Received) event()   {}
func (Configured) event() {}
func (Left) event()       {}

// Effects are what an event makes necessary.
type Effects struct {
	// Send is a datagram for the peer, nil for none.
	Send []byte
	// Changed reports whether the state is another one.
	Changed bool
	// Dropped is why a received packet did not count, nil if it did.
	Dropped error
}

// Step returns the session after an event at now, and its effects. Random is a fresh number
// in [0, 1). The owner steps a Tick when Wake has come, at the latest.
func (s Session) Step(e Event, now time.Duration, random float64) (Session, Effects) {
	before := s
	final := false
	switch e := e.(type) {
	case Tick:
		s.expirePeer(e.Drained, now)
	case Received:
		if err := s.receivePacket(e.Packet, e.At, now); err != nil {
			return before, Effects{Dropped: err}
		}
		final = e.Packet.Poll
	case Configured:
		s.reconfigure(e.Config)
	case Left:
		s.enterState(AdminDown, AdministrativelyDown, now)
	}
	s.negotiateTimers(s.state != before.state)
	return s, Effects{Send: s.transmitPacket(now, random, final), Changed: s.state != before.state}
}

// receivePacket takes a packet that was demultiplexed to this session (RFC 5880 §6.8.6).
func (s *Session) receivePacket(p Packet, at, now time.Duration) error {
	if err := s.checkAuthentication(p); err != nil {
		return err
	}
	if s.state == AdminDown {
		return ErrAdminDown
	}
	if p.Authentication.Type != NoAuth {
		s.receivedSequence, s.sequenceKnown = p.Authentication.Sequence, true
	}
	s.remote = remote{
		state: p.State, diagnostic: p.Diagnostic, discriminator: p.MyDiscriminator,
		minTx: p.DesiredMinTx, minRx: p.RequiredMinRx, multiplier: p.DetectMultiplier, demand: p.Demand,
	}
	s.known, s.heard = true, max(s.heard, at)
	s.forget = s.heard + 2*s.DetectionTime()
	s.poll = s.poll.nextPoll(p)
	if next, diagnostic := transition(s.state, p.State); next != s.state {
		s.enterState(next, diagnostic, now)
	}
	return nil
}

// transition is the state machine (RFC 5880 §6.2, §6.8.6): what a session in a state becomes
// by a packet with the peer's.
func transition(local, remote State) (State, Diagnostic) {
	switch {
	case local == AdminDown:
		return AdminDown, AdministrativelyDown
	case remote == AdminDown && local != Down:
		return Down, NeighborSignaledDown
	case local == Down && remote == Down:
		return Init, NoDiagnostic
	case local == Down && remote == Init:
		return Up, NoDiagnostic
	case local == Init && remote >= Init:
		return Up, NoDiagnostic
	case local == Up && remote == Down:
		return Down, NeighborSignaledDown
	}
	return local, NoDiagnostic
}

func (s *Session) enterState(next State, diagnostic Diagnostic, now time.Duration) {
	if next != s.state {
		s.state, s.diagnostic, s.since = next, diagnostic, now
	}
}

// expirePeer gives up a peer that was silent for the detection time (RFC 5880 §6.8.4), and its
// sequence numbers after twice that (§6.8.1).
func (s *Session) expirePeer(drained, now time.Duration) {
	if s.Silent(drained) {
		last := s.remote.state
		s.known, s.remote, s.poll = false, unheard, idle
		if s.state == Init || s.state == Up {
			s.enterState(Down, DetectionTimeExpired, now)
		} else {
			s.remote.state = last // Still the last word of a peer that said why it goes.
		}
	}
	if s.sequenceKnown && drained >= s.forget {
		s.sequenceKnown = false
	}
}

// Silent reports whether the peer was heard once, and nothing of it for the detection time.
func (s *Session) Silent(now time.Duration) bool {
	return s.known && now-s.heard >= s.DetectionTime()
}

// reconfigure takes a new configuration. What the peer has to agree with is negotiated.
func (s *Session) reconfigure(c Config) {
	if c.Auth != s.config.Auth {
		s.sequenceKnown = false
	}
	s.config = c
}

// Never is a time that does not come.
const Never time.Duration = math.MaxInt64

// Wake returns when to step the session again at the latest.
func (s *Session) Wake() time.Duration {
	next := Never
	if s.isPeriodic() && !s.Done() {
		next = s.nextDue()
	}
	if s.known {
		next = min(next, s.heard+s.DetectionTime())
	}
	if s.sequenceKnown {
		next = min(next, s.forget)
	}
	return next
}

// Done reports whether a session that was Left has told the peer so often enough, or that there is
// no peer to tell. It sends nothing from then on.
func (s *Session) Done() bool {
	return s.state == AdminDown && (s.farewells >= farewells || s.remote.discriminator == 0)
}

// Status is what is known of a session.
type Status struct {
	State, RemoteState           State
	Diagnostic, RemoteDiagnostic Diagnostic
	// Since is when the state became what it is.
	Since                              time.Duration
	Discriminator, RemoteDiscriminator uint32
	// Interval is the negotiated time between two packets to the peer, and DetectionTime
	// that without one of the peer after which it is gone; zero before it was heard.
	Interval, DetectionTime time.Duration
}

// Status returns what is known of the session.
func (s *Session) Status() Status {
	return Status{
		State: s.state, RemoteState: s.remote.state, Diagnostic: s.diagnostic, RemoteDiagnostic: s.remote.diagnostic, Since: s.since,
		Discriminator: s.discriminator, RemoteDiscriminator: s.remote.discriminator,
		Interval: s.Interval(), DetectionTime: s.DetectionTime(),
	}
}
