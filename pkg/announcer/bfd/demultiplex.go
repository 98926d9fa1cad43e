package bfd

import (
	"errors"
	"net/netip"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

// Why a datagram reached no session.
var (
	errTTL           = errors.New("TTL is too low: the packet was forwarded")
	errDiscriminator = errors.New("your discriminator is of no session")
	errStranger      = errors.New("no session with its sender")
	errOld           = errors.New("a later packet was read before")
)

// receiveDatagram gives a datagram that came before now to its session (RFC 5880 §6.3, RFC 5881 §3, RFC 5883
// §3).
func (r *Runner) receiveDatagram(d datagram, now time.Duration) {
	s, p, err := r.demultiplex(d)
	if err != nil {
		r.dropped[err.Error()]++
		return
	}
	if least := s.config.MinimumTTL; d.multihop && d.ttl < int(least) {
		s.dropped[errTTL.Error()]++
		return
	}
	if p.YourDiscriminator == 0 && d.at < s.heard {
		// It waited among strangers' packets, and the peer knows its discriminator by now.
		s.dropped[errOld.Error()]++
		return
	}
	s.noteHeard(d.at)
	r.stepSession(s, protocol.Received{Packet: p, At: d.at}, now)
}

// demultiplex finds the session of a datagram. The discriminator that we gave the peer says
// it alone; before the peer knows it, where the datagram comes from does, and of several
// sessions the one that says the most about it.
func (r *Runner) demultiplex(d datagram) (*session, protocol.Packet, error) {
	if !d.multihop && d.ttl != singleHopTTL {
		return nil, protocol.Packet{}, errTTL
	}
	p, err := protocol.Parse(d.octets)
	if err != nil {
		return nil, p, err
	}
	if p.YourDiscriminator != 0 {
		s := r.byDiscriminator[p.YourDiscriminator]
		if s == nil || s.config.socketOf() != d.socket {
			return nil, p, errDiscriminator
		}
		return s, p, nil
	}
	var found *session
	for _, s := range r.byPeer[d.from] {
		if r.matchesKey(s.config.Key, d) && !s.leaving && (found == nil || s.config.precision() > found.config.precision()) {
			found = s
		}
	}
	if found == nil {
		return nil, p, errStranger
	}
	return found, p, nil
}

// matchesKey reports whether a datagram from k's peer came the way of k.
func (r *Runner) matchesKey(k Key, d datagram) bool {
	if k.socketOf() != d.socket || !sameScope(k.Peer, d.to) || k.Local.IsValid() && k.Local != d.to {
		return false
	}
	if k.Interface == "" {
		return true
	}
	index, err := r.wire.Index(k.Interface)
	return err == nil && index == d.index
}

// precision orders keys that one packet matches.
func (k Key) precision() (n int) {
	if k.Local.IsValid() {
		n += 2
	}
	if k.Interface != "" {
		n++
	}
	return n
}

// sameScope reports whether two addresses of one family can be the ends of a session. While
// the right one is not usable, during duplicate address detection say, Linux would send from
// a global address to a link-local peer and the reverse. The peer would take such a packet
// for the session with that address, and each of the two sessions would upset the other
// (RFC 5881 §6 wants both addresses of one subnet).
func sameScope(a, b netip.Addr) bool {
	return a.Is4() || a.IsLinkLocalUnicast() == b.IsLinkLocalUnicast()
}
