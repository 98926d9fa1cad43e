package bfd

import (
	"math/rand/v2"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

// setSessions makes wanted the sessions that there are.
func (r *Runner) setSessions(wanted map[Key]SessionConfig) {
	for key, s := range r.sessions {
		if _, stays := wanted[key]; !stays {
			r.leaveSession(s)
		}
	}
	for key, c := range wanted {
		switch s := r.sessions[key]; {
		case s == nil:
			r.beginSession(c)
		case !s.config.sameAs(c):
			s.config = c
			r.stale = true
			r.stepSession(s, protocol.Configured{Config: c.protocolConfig()}, r.now())
		}
	}
}

// sameAs reports whether two entries of one key say the same.
func (c SessionConfig) sameAs(other SessionConfig) bool {
	return c.protocolConfig() == other.protocolConfig() && c.MinimumTTL == other.MinimumTTL
}

// beginSession makes a new session.
func (r *Runner) beginSession(c SessionConfig) {
	if old := r.leaving[c.Key]; old != nil { // The peer must hear only one of them.
		r.forgetSession(old)
	}
	discriminator := rand.Uint32()
	for discriminator == 0 || r.byDiscriminator[discriminator] != nil {
		discriminator = rand.Uint32()
	}
	s := &session{config: c, machine: protocol.New(c.protocolConfig(), discriminator, rand.Uint32(), r.now()), since: time.Now(), dropped: map[string]uint64{}}
	r.sessions[c.Key], r.byDiscriminator[discriminator] = s, s
	r.byPeer[c.Peer] = append(r.byPeer[c.Peer], s)
	r.timers.addSession(s)
	r.stale = true
}

// leaveSession ends a session, at once if the peer is not to hear of it.
func (r *Runner) leaveSession(s *session) {
	delete(r.sessions, s.config.Key)
	if !r.options.AdminDown {
		r.forgetSession(s)
		return
	}
	s.leaving = true
	r.leaving[s.config.Key] = s
	r.stepSession(s, protocol.Left{}, r.now())
}

// forgetSession drops all that refers to a session.
func (r *Runner) forgetSession(s *session) {
	if r.leaving[s.config.Key] == s {
		delete(r.leaving, s.config.Key)
	}
	delete(r.byDiscriminator, s.machine.Status().Discriminator)
	if others := slices.DeleteFunc(r.byPeer[s.config.Peer], func(other *session) bool { return other == s }); len(others) > 0 {
		r.byPeer[s.config.Peer] = others
	} else {
		delete(r.byPeer, s.config.Peer)
	}
	r.timers.removeSession(s)
	r.stale = true
}

// stepSession tells a session what happened up to now, and does what follows.
func (r *Runner) stepSession(s *session, e protocol.Event, now time.Duration) {
	before := s.machine.Status().State
	var effects protocol.Effects
	s.machine, effects = s.machine.Step(e, now, rand.Float64())
	if effects.Dropped != nil {
		s.dropped[effects.Dropped.Error()]++
	}
	if effects.Send != nil {
		r.sendPacket(s, effects.Send)
	}
	if effects.Changed && !s.leaving {
		s.since = time.Now()
		s.countChange(before)
		r.events = append(r.events, s.changeEvent(before))
	}
	if s.leaving && s.machine.Done() {
		r.forgetSession(s)
		return
	}
	r.timers.fixSession(s)
}
