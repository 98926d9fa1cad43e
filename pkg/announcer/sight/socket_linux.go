package sight

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/internal/sockfilter"
)

// maxAtOnce is how many datagrams of peers the owner reads before others have their turn.
const maxAtOnce = 64

// listen opens the sockets of an interface and family.
func listen(s Socket, pairs []pairID) (*conn, error) {
	p, err := newPrograms(s.IPv6, pairs)
	if err != nil {
		return nil, err
	}
	c := &conn{socket: s, closed: make(chan struct{})}
	// Nobody else may have the port. So the first socket is bound as one that shares it with
	// nobody, and only then lets the second one in.
	if c.peers, err = bind(s, p.peers, receiveBuffer, 0); err != nil {
		return nil, err
	}
	if err = control(c.peers, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); err == nil {
		c.others, err = bind(s, p.others, othersBuffer, 1)
	}
	if err != nil {
		return nil, errors.Join(err, c.peers.Close())
	}
	if err := c.attach(p); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// bind opens a socket that is bound to its interface and lets through what program does.
func bind(s Socket, program []bpf.RawInstruction, buffer, reusePort int) (*net.UDPConn, error) {
	network, address := "udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), Port)
	if s.IPv6 {
		network, address = "udp6", netip.AddrPortFrom(netip.IPv6Unspecified(), Port)
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return onDescriptor(raw, func(fd int) error {
			return errors.Join(prepare(fd, s, buffer, reusePort), sockfilter.Attach(fd, unix.SO_ATTACH_FILTER, program))
		})
	}}
	c, err := config.ListenPacket(context.Background(), network, address.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// prepare sets what a socket needs before it is bound.
func prepare(fd int, s Socket, buffer, reusePort int) error {
	if err := unix.BindToDevice(fd, s.Name); err != nil {
		return fmt.Errorf("bind to device: %w", err)
	}
	level, class, limit, tell := unix.IPPROTO_IP, unix.IP_TOS, unix.IP_TTL, unix.IP_RECVTTL
	if s.IPv6 {
		level, class, limit, tell = unix.IPPROTO_IPV6, unix.IPV6_TCLASS, unix.IPV6_UNICAST_HOPS, unix.IPV6_RECVHOPLIMIT
	}
	return errors.Join(
		unix.SetsockoptInt(fd, level, class, trafficClass),
		unix.SetsockoptInt(fd, level, limit, hopLimit),
		unix.SetsockoptInt(fd, level, tell, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, priority),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, reusePort),
	)
}

// filter has the kernel let through what bears one of pairs.
func (c *conn) filter(pairs []pairID) error {
	p, err := newPrograms(c.socket.IPv6, pairs)
	if err != nil {
		return err
	}
	return errors.Join(
		control(c.peers, func(fd int) error { return sockfilter.Attach(fd, unix.SO_ATTACH_FILTER, p.peers) }),
		control(c.others, func(fd int) error { return sockfilter.Attach(fd, unix.SO_ATTACH_FILTER, p.others) }),
		c.attach(p),
	)
}

// attach has the kernel divide between the two sockets.
func (c *conn) attach(p programs) error {
	return control(c.peers, func(fd int) error { return sockfilter.Attach(fd, unix.SO_ATTACH_REUSEPORT_CBPF, p.choose) })
}

// control calls f with the descriptor of c.
func control(c *net.UDPConn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return onDescriptor(raw, f)
}

func onDescriptor(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if failed := raw.Control(func(fd uintptr) { err = f(int(fd)) }); failed != nil {
		return failed
	}
	return err
}

// send sends a datagram, or says at once that there is no room. To wait for that in Go's poller
// would keep the owner from everything else.
func send(c *net.UDPConn, from Socket, to netip.AddrPort, datagram []byte) error {
	var where unix.Sockaddr
	if to.Addr().Is4() {
		where = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		where = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16(), ZoneId: uint32(from.Index)} //nolint:gosec // never negative
	}
	return control(c, func(fd int) error { return unix.Sendto(fd, datagram, unix.MSG_DONTWAIT, where) })
}

// begin has c's sockets read.
func (n *Network) begin(c *conn) error {
	if n.poller == nil {
		n.readers.Go(func() { n.read(c, c.peers) })
	} else if err := n.poll(c); err != nil {
		return err
	}
	n.readers.Go(func() { n.read(c, c.others) })
	return nil
}

// poll has the owner read what comes from peers.
func (n *Network) poll(c *conn) error {
	raw, err := c.peers.SyscallConn()
	if err != nil {
		return err
	}
	buffer, told := make([]byte, maxDatagram+1), make([]byte, unix.CmsgSpace(4))
	ready := func() {
		_ = raw.Control(func(fd uintptr) { // It fails once the socket is closed.
			if n.drain(c, int(fd), buffer, told) != nil {
				n.poller.Remove(int(fd))
				c.broken.Store(true)
				n.failed()
			}
		})
	}
	return onDescriptor(raw, func(fd int) error { return n.poller.Add(fd, ready) })
}

// drain reads what peers sent, up to a bound: other sockets have their turn too.
func (n *Network) drain(c *conn, fd int, buffer, control []byte) error {
	for range maxAtOnce {
		size, told, _, from, err := unix.Recvmsg(fd, buffer, control, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return nil
		}
		if err != nil {
			return err
		}
		p, err := n.take(buffer[:size], control[:told])
		if err != nil {
			n.Drop(err)
			continue
		}
		n.polled(Arrival{p, c.socket, sourceOf(from)})
	}
	return nil
}

// sourceOf returns the address in a, without a zone.
func sourceOf(a unix.Sockaddr) netip.Addr {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr).Unmap()
	}
	return netip.Addr{}
}

// read takes datagrams off one of c's sockets until it is closed or fails.
func (n *Network) read(c *conn, from *net.UDPConn) {
	buffer, control := make([]byte, maxDatagram+1), make([]byte, unix.CmsgSpace(4))
	for {
		if from == c.others && !n.pause(c) {
			return
		}
		size, told, _, source, err := from.ReadMsgUDPAddrPort(buffer, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			c.broken.Store(true)
			n.failed()
			return
		}
		p, err := n.take(buffer[:size], control[:told])
		if err != nil {
			n.Drop(err)
			continue
		}
		n.receive(Arrival{p, c.socket, source.Addr().Unmap()})
	}
}

// take returns the packet in a datagram. Where its hop limit is not told it has been looked at.
func (n *Network) take(datagram, told []byte) (Packet, error) {
	if hops, ok := toldHops(told); ok && hops != hopLimit {
		return Packet{}, ErrHopLimit
	}
	return n.ring.Load().Open(datagram)
}

// toldHops returns the hop limit that the kernel tells beside a datagram: one message, which
// is a number in the machine's byte order.
func toldHops(told []byte) (uint32, bool) {
	header := unix.CmsgLen(0)
	if len(told) < header+4 {
		return 0, false
	}
	return binary.NativeEndian.Uint32(told[header:]), true
}

// pause waits until another datagram of the others may be read, and reports whether c is open.
func (n *Network) pause(c *conn) bool {
	n.mu.Lock()
	now := Now()
	at := max(now, n.nextOther)
	n.nextOther = at + time.Second/othersRate
	n.mu.Unlock()
	if at == now {
		return true
	}
	timer := time.NewTimer(at - now)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.closed:
		return false
	}
}
