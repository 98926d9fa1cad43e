package protocol

import "time"

// timers are the two intervals that we advertise.
type timers struct{ tx, rx time.Duration }

// poll is where a Poll Sequence is (RFC 5880 §6.5).
type poll uint8

const (
	idle poll = iota
	// polling: packets have the Poll bit until one with Final comes.
	polling
	// settling: until a packet without Final comes, a further one might answer the last
	// Poll Sequence instead of the next (§6.8.3).
	settling
)

func (p poll) nextPoll(received Packet) poll {
	switch {
	case p == polling && received.Final:
		return settling
	case p == settling && !received.Final:
		return idle
	}
	return p
}

// wantedTimers is what the session should advertise in its state (RFC 5880 §6.8.3).
func (s *Session) wantedTimers() timers {
	w := timers{s.config.DesiredMinTx, s.config.RequiredMinRx}
	if s.state != Up {
		w.tx = max(w.tx, slowest)
	}
	return w
}

// negotiateTimers advertises changed intervals, with a Poll Sequence if there is a peer to answer
// it, and says which hold meanwhile (RFC 5880 §6.8.3). What is changed while another change is
// under way waits for its end, but for what another state demands.
func (s *Session) negotiateTimers(stateChanged bool) {
	if want := s.wantedTimers(); want != s.advertised && (stateChanged || s.state != Up || s.poll == idle) {
		s.advertised = want
		s.poll = idle
		if s.remote.discriminator != 0 && s.state != AdminDown {
			s.poll = polling
		}
	}
	if s.state != Up || s.poll != polling {
		s.used = s.advertised
		return
	}
	// The peer must wait longer before we send less often, and must send more often before we
	// wait less.
	s.used.tx = min(s.used.tx, s.advertised.tx)
	s.used.rx = max(s.used.rx, s.advertised.rx)
}

// DetectionTime is after how much silence the peer is gone (RFC 5880 §6.8.4).
func (s *Session) DetectionTime() time.Duration {
	return time.Duration(s.remote.multiplier) * max(s.used.rx, s.remote.minTx)
}

const (
	// leastShare and mostShare are how much of its interval a packet waits (RFC 5880
	// §6.8.7). With a detect multiplier of 1 the peer has nothing but our haste to go by.
	leastShare, mostShare, hastyShare = 0.75, 1, 0.9
	// farewells packets report that a session ends, at the rate at which the peer is able to
	// receive, within bounds.
	farewells                        = 3
	fastestFarewell, slowestFarewell = 10 * time.Millisecond, 100 * time.Millisecond
)

// Interval is the negotiated time between two of our packets, which jitter makes shorter.
func (s *Session) Interval() time.Duration {
	if s.state == AdminDown {
		return min(max(s.remote.minRx, fastestFarewell), slowestFarewell)
	}
	return max(s.used.tx, s.remote.minRx)
}

// isPeriodic reports whether packets are sent without a further reason (RFC 5880 §6.8.7).
func (s *Session) isPeriodic() bool {
	silenced := s.remote.minRx == 0
	polled := s.remote.demand && s.state == Up && s.remote.state == Up && s.poll != polling
	return !silenced && !polled
}

// nextDue returns when the next periodic packet is. It follows a changed interval at once.
func (s *Session) nextDue() time.Duration {
	of := func(share float64) time.Duration { return time.Duration(share * float64(s.Interval())) }
	return max(s.began+of(s.share), s.periodicAt+of(leastShare))
}

// transmitPacket returns the packet that has to go out now: the periodic one, the answer to a Poll,
// or one that says something new (RFC 5880 §6.8.7); nil for none.
func (s *Session) transmitPacket(now time.Duration, random float64, final bool) []byte {
	if s.Done() {
		return nil
	}
	p := s.statePacket()
	periodic := s.isPeriodic() && now >= s.nextDue()
	// Only scheduled packets poll (§6.5). If those that tell of another state did too, each
	// would be answered, the answers tell of states that are over, and two systems that change
	// at the same time could go round in circles as fast as the wire allows.
	p.Poll, p.Final = s.poll == polling && periodic && !final, final
	if !periodic && !final && !s.isNews(p) {
		return nil
	}
	if periodic {
		s.scheduleNext(now, random)
	}
	if s.state == AdminDown {
		s.farewells++
	}
	s.authenticatePacket(&p)
	s.sent = p
	return p.Encode(s.config.Auth.Key)
}

// scheduleNext says when the next periodic packet is due. What the last one was late is made up
// for, as far as no packet follows another too soon.
func (s *Session) scheduleNext(now time.Duration, random float64) {
	most := float64(mostShare)
	if s.config.DetectMultiplier == 1 {
		most = hastyShare
	}
	s.began = max(s.nextDue(), now-s.Interval())
	s.share, s.periodicAt = most-random*(most-leastShare), now
}

// statePacket is what the session has to say, but for Poll and Final.
func (s *Session) statePacket() Packet {
	return Packet{
		Diagnostic: s.diagnostic, State: s.state, DetectMultiplier: s.config.DetectMultiplier,
		MyDiscriminator: s.discriminator, YourDiscriminator: s.remote.discriminator,
		DesiredMinTx: s.advertised.tx, RequiredMinRx: s.advertised.rx,
	}
}

// isNews reports whether p says something that the last packet did not.
func (s *Session) isNews(p Packet) bool {
	last := s.sent.unsigned()
	p.Poll, p.Final = last.Poll, last.Final
	return last.MyDiscriminator != 0 && last != p
}

// unsigned returns p as it was before it was authenticated.
func (p Packet) unsigned() Packet {
	p.Authentication = Authentication{}
	return p
}
