package bfd

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

// session is a session and what became of it.
type session struct {
	config  SessionConfig
	machine protocol.Session
	leaving bool
	// source is the address that packets are sent from, where the configuration has none.
	source netip.Addr
	// place is where it is among the timers.
	place int

	since                  time.Time
	received, sent, unsent uint64
	ups, downs             uint64
	dropped                map[string]uint64
	problem                error
	// heard is when the last packet came, and gap the longest time between two while Up.
	heard, gap time.Duration
}

// admission is how packets of the session are distinguished from others.
func (s *session) admission() admission {
	return admission{s.machine.Status().Discriminator, s.config.Peer, s.config.ReceiveInterval}
}

// noteHeard takes that a packet of the session came.
func (s *session) noteHeard(at time.Duration) {
	if s.machine.Status().State == Up {
		s.gap = max(s.gap, at-s.heard)
	}
	s.received++
	s.heard = at
}

// countChange counts a change of state.
func (s *session) countChange(before State) {
	switch after := s.machine.Status().State; {
	case after == Up:
		s.ups++
		s.gap = 0
	case before == Up:
		s.downs++
	}
}

func (s *session) changeEvent(before State) Event {
	x := s.machine.Status()
	return Event{
		Key: s.config.Key, State: x.State, Previous: before, RemoteState: x.RemoteState,
		Diagnostic: x.Diagnostic, RemoteDiagnostic: x.RemoteDiagnostic, Since: s.since,
	}
}

// Status is what is known of a session.
type Status struct {
	Key
	State, RemoteState           State
	Diagnostic, RemoteDiagnostic Diagnostic
	Since                        time.Time
	// Interval is the negotiated time between two packets to the peer, before jitter, and
	// DetectionTime the silence after which the peer is gone; zero before it was heard.
	Interval, DetectionTime time.Duration
	// LongestGap is the longest time between two packets of the peer since the session came
	// up: how much of the detection time was ever used.
	LongestGap time.Duration
	// Received are packets that were the session's, those that did not count among them;
	// Sent those that the kernel took, and Unsent those that it did not.
	Received, Sent, Unsent uint64
	// Ups and Downs are how often the session came up and ceased to be.
	Ups, Downs uint64
	// Dropped are received packets that did not count, by the reason.
	Dropped map[string]uint64
	// Problem is why the last packet could not be sent, nil if it could.
	Problem error
}

// Sessions returns what is known of all sessions, in the order of their peers.
func (r *Runner) Sessions() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Status, 0, len(r.sessions))
	for _, s := range r.sessions {
		x := s.machine.Status()
		out = append(out, Status{
			Key: s.config.Key, State: x.State, RemoteState: x.RemoteState, Diagnostic: x.Diagnostic, RemoteDiagnostic: x.RemoteDiagnostic,
			Since: s.since, Interval: x.Interval, DetectionTime: x.DetectionTime, LongestGap: s.gap,
			Received: s.received, Sent: s.sent, Unsent: s.unsent, Ups: s.ups, Downs: s.downs, Dropped: maps.Clone(s.dropped), Problem: s.problem,
		})
	}
	slices.SortFunc(out, func(a, b Status) int {
		return cmp.Or(a.Peer.Compare(b.Peer), cmp.Compare(a.Name(), b.Name()))
	})
	return out
}

// Dropped returns how many datagrams reached no session, by the reason.
func (r *Runner) Dropped() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.dropped)
}
