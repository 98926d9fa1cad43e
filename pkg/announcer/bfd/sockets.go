package bfd

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

// errScope is why a packet is not sent.
var errScope = errors.New("the only usable address is not of the peer's scope, link-local or global")

func (r *Runner) sendPacket(s *session, octets []byte) {
	o := outgoing{socket: s.config.socketOf(), to: s.config.Peer, octets: octets}
	if s.problem = r.routePacket(s, &o); s.problem == nil {
		s.problem = r.wire.Send(o)
	}
	if s.problem != nil {
		s.unsent++
		return
	}
	s.sent++
}

// routePacket says where a packet of s leaves, and from which address. Where the configuration does
// not give one, it is what the kernel has for the peer now, and stays while the session does.
func (r *Runner) routePacket(s *session, o *outgoing) (err error) {
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

// openSockets makes the sockets that the sessions need the open ones.
func (r *Runner) openSockets(now time.Duration) {
	if r.wire.Broken() {
		r.reopenAt = min(r.reopenAt, now+reopenAfter)
	}
	if !r.stale && now < r.reopenAt {
		return
	}
	wanted := map[socket][]admission{}
	for _, s := range r.byDiscriminator {
		of := s.config.socketOf()
		wanted[of] = append(wanted[of], s.admission())
	}
	for _, admitted := range wanted {
		slices.SortFunc(admitted, func(a, b admission) int { return cmp.Compare(a.discriminator, b.discriminator) })
	}
	r.stale, r.reopenAt, r.nap = false, protocol.Never, maxNap
	for _, s := range r.sessions {
		r.nap = min(r.nap, min(s.config.TransmitInterval, s.config.ReceiveInterval)/napShare)
	}
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
