package failover

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

// listenOn opens the sockets of an interface and family.
func listenOn(s Socket, pairs []pairID) (*conn, error) {
	p, err := newPrograms(s.IPv6, pairs)
	if err != nil {
		return nil, err
	}
	c := &conn{socket: s, closed: make(chan struct{})}
	// No other program may have the port. So the first socket is bound as one that does not share
	// it, and only then lets the second one in.
	if c.peers, err = bindSocket(s, p.peers, receiveBuffer, 0); err != nil {
		return nil, err
	}
	if err = controlSocket(c.peers, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); err == nil {
		c.others, err = bindSocket(s, p.others, othersBuffer, 1)
	}
	if err != nil {
		return nil, errors.Join(err, c.peers.Close())
	}
	if err := c.attachFilters(p); err != nil {
		c.closeSockets()
		return nil, err
	}
	return c, nil
}

// bindSocket opens a socket that is bound to its interface and lets through what program does.
func bindSocket(s Socket, program []bpf.RawInstruction, buffer, reusePort int) (*net.UDPConn, error) {
	network, address := "udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), Port)
	if s.IPv6 {
		network, address = "udp6", netip.AddrPortFrom(netip.IPv6Unspecified(), Port)
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return onDescriptor(raw, func(fd int) error {
			return errors.Join(prepareSocket(fd, s, buffer, reusePort), sockfilter.Attach(fd, unix.SO_ATTACH_FILTER, program))
		})
	}}
	c, err := config.ListenPacket(context.Background(), network, address.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// prepareSocket sets what a socket needs before it is bound.
func prepareSocket(fd int, s Socket, buffer, reusePort int) error {
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

// setFilter has the kernel let through what bears one of pairs.
func (c *conn) setFilter(pairs []pairID) error {
	p, err := newPrograms(c.socket.IPv6, pairs)
	if err != nil {
		return err
	}
	return errors.Join(
		controlSocket(c.peers, func(fd int) error { return sockfilter.Attach(fd, unix.SO_ATTACH_FILTER, p.peers) }),
		controlSocket(c.others, func(fd int) error { return sockfilter.Attach(fd, unix.SO_ATTACH_FILTER, p.others) }),
		c.attachFilters(p),
	)
}

// attachFilters has the kernel divide between the two sockets.
func (c *conn) attachFilters(p programs) error {
	return controlSocket(c.peers, func(fd int) error { return sockfilter.Attach(fd, unix.SO_ATTACH_REUSEPORT_CBPF, p.choose) })
}

// controlSocket calls f with the descriptor of c.
func controlSocket(c *net.UDPConn, f func(fd int) error) error {
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

// sendDatagram sends a datagram, or says at once that there is no room. To wait for that in Go's poller
// would keep the owner from everything else.
func sendDatagram(c *net.UDPConn, from Socket, to netip.AddrPort, datagram []byte) error {
	var where unix.Sockaddr
	if to.Addr().Is4() {
		where = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		where = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16(), ZoneId: uint32(from.Index)} //nolint:gosec // never negative
	}
	return controlSocket(c, func(fd int) error { return unix.Sendto(fd, datagram, unix.MSG_DONTWAIT, where) })
}

// startReading has c's sockets read.
func (n *Network) startReading(c *conn) error {
	if n.poller == nil {
		n.readers.Go(func() { n.readLoop(c, c.peers) })
	} else if err := n.pollPeers(c); err != nil {
		return err
	}
	n.readers.Go(func() { n.readLoop(c, c.others) })
	return nil
}

// pollPeers makes the owner read what comes from peers.
func (n *Network) pollPeers(c *conn) error {
	raw, err := c.peers.SyscallConn()
	if err != nil {
		return err
	}
	buffer, told := make([]byte, maxDatagram+1), make([]byte, unix.CmsgSpace(4))
	ready := func() {
		_ = raw.Control(func(fd uintptr) { // It fails once the socket is closed.
			if n.drainSocket(c, int(fd), buffer, told) != nil {
				n.poller.Remove(int(fd))
				c.broken.Store(true)
				n.failed()
			}
		})
	}
	return onDescriptor(raw, func(fd int) error { return n.poller.Add(fd, ready) })
}

// drainSocket reads what peers sent, up to a bound: other sockets have their turn too.
func (n *Network) drainSocket(c *conn, fd int, buffer, control []byte) error {
	for range maxAtOnce {
		size, told, _, from, err := unix.Recvmsg(fd, buffer, control, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return nil
		}
		if err != nil {
			return err
		}
		p, err := n.openDatagram(buffer[:size], control[:told])
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

// readLoop takes datagrams off one of c's sockets until it is closed or fails.
func (n *Network) readLoop(c *conn, from *net.UDPConn) {
	buffer, control := make([]byte, maxDatagram+1), make([]byte, unix.CmsgSpace(4))
	for {
		if from == c.others && !n.awaitOthersTurn(c) {
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
		p, err := n.openDatagram(buffer[:size], control[:told])
		if err != nil {
			n.Drop(err)
			continue
		}
		n.receive(Arrival{p, c.socket, source.Addr().Unmap()})
	}
}

// openDatagram returns the packet in a datagram. Where its hop limit is not told it has been looked at.
func (n *Network) openDatagram(datagram, told []byte) (Packet, error) {
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

// awaitOthersTurn waits until another datagram of the others may be read, and reports whether c is open.
func (n *Network) awaitOthersTurn(c *conn) bool {
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
