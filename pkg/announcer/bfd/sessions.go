package bfd

import (
	"math/rand/v2"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

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
			r.stale = true
			r.step(s, protocol.Configured{Config: c.protocol()}, r.now())
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
	r.step(s, protocol.Left{}, r.now())
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

// step tells a session what happened up to now, and does what follows.
func (r *Runner) step(s *session, e protocol.Event, now time.Duration) {
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
