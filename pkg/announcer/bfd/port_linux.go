package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

const (
	// maxAtOnce is how many datagrams of a socket are read before others have their turn, and
	// maxDrained how many at most where nothing may be left: more than a buffer holds.
	maxAtOnce  = 64
	maxDrained = 4096
	// startingRate and strangeRate are how many packets a second are read that no session may have
	// sent, and as many at once. Of known ones it is spareRate and twice what their peers may send.
	startingRate = 500
	strangeRate  = 50
	spareRate    = 200
)

// buffers are what the sockets of a port are asked for; the kernel may grant less. That of known packets
// is for a process that waits for a processor.
var buffers = [kinds]int{known: 1 << 20, starting: 64 << 10, strange: 8 << 10}

// port is the sockets of a family and port, one for each kind of packets.
type port struct {
	receivers [kinds]*receiver
	admitted  []admission
}

// openPort opens a port.
func openPort(s socket, admitted []admission) (*port, error) {
	p := &port{}
	for k := range kinds {
		fd, err := bindSocket(s, k)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("receive on %s: %w", s, err), p.Close())
		}
		p.receivers[k] = &receiver{fd: fd, socket: s, empty: now(), pace: rate.NewLimiter(strangeRate, strangeRate)}
		if k == known {
			// No other program may have the port. So the first socket is bound without sharing it,
			// and only then lets the others in.
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("receive on %s: %w", s, err), p.Close())
		}
	}
	p.receivers[starting].pace = rate.NewLimiter(startingRate, startingRate)
	if err := p.admitSessions(s, admitted); err != nil {
		return nil, errors.Join(fmt.Errorf("receive on %s: %w", s, err), p.Close())
	}
	return p, nil
}

// bindSocket opens a socket on a port of all addresses of the host.
func bindSocket(s socket, k kind) (fd int, err error) {
	family, number := unix.AF_INET, singleHopPort
	if s.ipv6 {
		family = unix.AF_INET6
	}
	if s.multihop {
		number = multihopPort
	}
	program, err := socketProgram()
	if err != nil {
		return -1, err
	}
	return openSocket(family, number, func(fd int) error {
		level, about, limit := unix.IPPROTO_IP, unix.IP_PKTINFO, unix.IP_RECVTTL
		if s.ipv6 {
			level, about, limit = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, unix.IPV6_RECVHOPLIMIT
		}
		share := 1
		if k == known {
			share = 0
		}
		return errors.Join(
			unix.SetsockoptInt(fd, level, about, 1),
			unix.SetsockoptInt(fd, level, limit, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffers[k]),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, share),
			attachProgram(fd, unix.SO_ATTACH_FILTER, program),
		)
	})
}

func attachProgram(fd, option int, program []bpf.RawInstruction) error {
	filters := make([]unix.SockFilter, len(program))
	for i, in := range program {
		filters[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option, &unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]}); err != nil {
		return fmt.Errorf("filter socket: %w", err)
	}
	return nil
}

// admitSessions makes the kernel take packets for those of sessions that are admitted.
func (p *port) admitSessions(s socket, admitted []admission) error {
	if p.admitted != nil && slices.Equal(p.admitted, admitted) {
		return nil
	}
	program, err := dividingFilter(s, admitted)
	if err != nil {
		return err
	}
	if err := attachProgram(p.receivers[known].fd, unix.SO_ATTACH_REUSEPORT_CBPF, program); err != nil {
		return err
	}
	perSecond := 0.0
	for _, a := range admitted {
		perSecond += time.Second.Seconds() / a.every.Seconds()
	}
	p.admitted = admitted
	p.receivers[known].pace = rate.NewLimiter(rate.Limit(spareRate+2*perSecond), maxDrained)
	return nil
}

func (p *port) isBroken() bool {
	return slices.ContainsFunc(p.receivers[:], func(r *receiver) bool { return r.broken })
}

// Close closes all sockets that are open.
func (p *port) Close() error {
	var failed []error
	for _, r := range p.receivers {
		if r != nil {
			failed = append(failed, unix.Close(r.fd))
		}
	}
	return errors.Join(failed...)
}

// receiver is a socket that packets arrive at. It has one user.
type receiver struct {
	fd     int
	socket socket
	broken bool
	pace   *rate.Limiter
	// waiting is what was read and not taken, and empty a time at which everything that had come was.
	waiting []datagram
	empty   time.Duration
	// octets and about are room for one datagram and what the kernel says of it.
	octets [protocol.MaxPacket]byte
	about  [256]byte
}

// readDatagrams reads datagrams, at most so many, and returns for how long to read no more.
func (r *receiver) readDatagrams(most int) time.Duration {
	began, wall := now(), time.Now()
	n := 0
	for n < most && !r.broken && r.readNext(began, wall) {
		n++
	}
	return r.pace.ReserveN(wall, min(n, r.pace.Burst())).DelayFrom(wall)
}

// readNext reads a datagram, and reports whether there was one. began and wall are a time before by both
// clocks.
func (r *receiver) readNext(began time.Duration, wall time.Time) bool {
	size, aboutSize, flags, from, err := unix.Recvmsg(r.fd, r.octets[:], r.about[:], unix.MSG_DONTWAIT)
	switch {
	case errors.Is(err, unix.EINTR):
		return true
	case errors.Is(err, unix.EAGAIN):
		r.empty = began
		return false
	case err != nil:
		r.broken = true
		return false
	case flags&unix.MSG_CTRUNC != 0:
		return true // Nothing is known of where it came from.
	}
	d := datagram{socket: r.socket, ttl: -1, at: began, octets: slices.Clone(r.octets[:size])}
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		d.from = netip.AddrFrom4(from.Addr)
	case *unix.SockaddrInet6:
		d.from = netip.AddrFrom16(from.Addr)
	}
	if stamp := addAncillary(&d, r.about[:aboutSize]); !stamp.IsZero() {
		d.at = r.arrivalTime(stamp, began, wall)
	}
	r.waiting = append(r.waiting, d)
	return true
}

// takeRead returns what was read up to now.
func (r *receiver) takeRead(now time.Duration) []datagram {
	waiting := r.waiting
	r.waiting = nil
	for i := range waiting {
		waiting[i].at = min(waiting[i].at, now)
	}
	return waiting
}

// addAncillary adds what the kernel says of a datagram, and returns when that came by the clock on the
// wall, or zero.
func addAncillary(d *datagram, about []byte) (stamp time.Time) {
	for len(about) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(about)
		if err != nil {
			return stamp
		}
		about = rest
		native := binary.NativeEndian
		switch kind := [2]int{int(header.Level), int(header.Type)}; {
		case kind == [2]int{unix.IPPROTO_IP, unix.IP_PKTINFO} && len(data) >= unix.SizeofInet4Pktinfo:
			d.index, d.to = int(native.Uint32(data)), netip.AddrFrom4([4]byte(data[8:]))
		case kind == [2]int{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO} && len(data) >= unix.SizeofInet6Pktinfo:
			d.index, d.to = int(native.Uint32(data[16:])), netip.AddrFrom16([16]byte(data))
		case (kind == [2]int{unix.IPPROTO_IP, unix.IP_TTL} || kind == [2]int{unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT}) && len(data) >= 4:
			d.ttl = int(native.Uint32(data))
		case kind == [2]int{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS} && len(data) >= 16:
			stamp = time.Unix(int64(native.Uint64(data)), int64(native.Uint64(data[8:])))
		}
	}
	return stamp
}

// arrivalTime returns when a datagram came whose arrival the kernel stamped by the clock on the wall.
// began and wall are a time before it was read, by both clocks. Setting the one on the wall meanwhile
// moves no arrival before the time at which the socket was empty, nor, by take, after the present.
func (r *receiver) arrivalTime(stamp time.Time, began time.Duration, wall time.Time) time.Duration {
	return max(began+stamp.Sub(wall.Round(0)), r.empty)
}
