package bfd

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// trafficClass is CS6, network control, which switches and qdiscs prefer; priority is
	// the socket's, the highest that needs no privilege.
	trafficClass = 0xc0
	priority     = 6
	// sourcePortTries is how many ports are tried to send from.
	sourcePortTries = 100
)

// now returns the time by a clock that goes on while the machine sleeps, and that cannot be set.
func now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("read CLOCK_BOOTTIME: %v", err)) // There since Linux 2.6.39.
	}
	return time.Duration(ts.Nano())
}

// network is the wire of real sockets: ports that receive, and one socket for each family that
// sends. Go's runtime knows of none of them, so that a packet wakes the owner and no other thread.
// Its methods are called by one owner.
type network struct {
	loop    Loop
	ports   map[socket]*port
	senders map[bool]int // by whether they are for IPv6
}

var _ wire = (*network)(nil)

// newNetwork returns one without sockets, which are read when loop says so.
func newNetwork(loop Loop) *network {
	return &network{loop: loop, ports: map[socket]*port{}, senders: map[bool]int{}}
}

func (n *network) Open(wanted map[socket][]admission) error {
	families := map[bool]bool{}
	for s := range wanted {
		families[s.ipv6] = true
	}
	for s, p := range n.ports {
		if wanted[s] == nil || p.isBroken() {
			n.closePort(s)
		}
	}
	for ipv6, fd := range n.senders {
		if !families[ipv6] {
			_ = unix.Close(fd)
			delete(n.senders, ipv6)
		}
	}
	var failures []error
	for s, admitted := range wanted {
		failures = append(failures, n.listenOn(s, admitted))
	}
	for ipv6 := range families {
		if _, ok := n.senders[ipv6]; !ok {
			failures = append(failures, n.openSender(ipv6))
		}
	}
	return errors.Join(failures...)
}

// listenOn opens a port, or has one that is open take packets of those sessions.
func (n *network) listenOn(s socket, admitted []admission) (err error) {
	p := n.ports[s]
	if p != nil {
		return p.admitSessions(s, admitted)
	}
	if p, err = openPort(s, admitted); err != nil {
		return err
	}
	n.ports[s] = p
	for _, r := range p.receivers {
		ready := func() {
			if pause := r.readDatagrams(maxAtOnce); r.broken {
				n.loop.Remove(r.fd)
			} else if pause > 0 {
				n.loop.Pause(r.fd, pause)
			}
		}
		if err := n.loop.Add(r.fd, ready); err != nil {
			n.closePort(s)
			return fmt.Errorf("receive on %s: %w", s, err)
		}
	}
	return nil
}

// closePort closes a port.
func (n *network) closePort(s socket) {
	for _, r := range n.ports[s].receivers {
		n.loop.Remove(r.fd) // Its number may soon be another one's.
	}
	_ = n.ports[s].Close()
	delete(n.ports, s)
}

// openSocket opens a datagram socket that does not wait, on a port of all addresses of the host.
func openSocket(family, number int, options func(fd int) error) (fd int, err error) {
	if fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return -1, err
	}
	all := unix.Sockaddr(&unix.SockaddrInet4{Port: number})
	if family == unix.AF_INET6 {
		all, err = &unix.SockaddrInet6{Port: number}, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err = errors.Join(err, options(fd)); err == nil {
		err = unix.Bind(fd, all)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func (n *network) openSender(ipv6 bool) error {
	family, level, class, limit := unix.AF_INET, unix.IPPROTO_IP, unix.IP_TOS, unix.IP_TTL
	if ipv6 {
		family, level, class, limit = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, unix.IPV6_UNICAST_HOPS
	}
	var err error
	for range sourcePortTries {
		var fd int
		fd, err = openSocket(family, firstSourcePort+rand.IntN(1<<16-firstSourcePort), func(fd int) error {
			return errors.Join(
				unix.SetsockoptInt(fd, level, class, trafficClass),
				unix.SetsockoptInt(fd, level, limit, singleHopTTL),
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, priority),
			)
		})
		if err == nil {
			n.senders[ipv6] = fd
			return nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return fmt.Errorf("send BFD packets: %w", err)
}

func (n *network) Broken() bool {
	for _, p := range n.ports {
		if p.isBroken() {
			return true
		}
	}
	return false
}

func (n *network) Receive(everything bool) (some []datagram) {
	for _, p := range n.ports {
		if everything {
			p.receivers[known].readDatagrams(maxDrained)
		}
	}
	now := now()
	for _, p := range n.ports {
		for _, r := range p.receivers {
			some = append(some, r.takeRead(now)...)
		}
	}
	// The packets of a session that comes up go to two sockets.
	slices.SortStableFunc(some, func(a, b datagram) int { return cmp.Compare(a.at, b.at) })
	return some
}

// Send sends a datagram, unless it would have to wait.
func (n *network) Send(o outgoing) error {
	fd, ok := n.senders[o.ipv6]
	if !ok {
		return errors.New("there is no socket to send from")
	}
	number := singleHopPort
	if o.multihop {
		number = multihopPort
	}
	var about []byte
	if o.ipv6 {
		about = unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(o.index), Addr: o.from.As16()})
	} else {
		about = unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(o.index), Spec_dst: o.from.As4()})
	}
	_, err := unix.SendmsgN(fd, o.octets, about, sockaddr(o.to, number, o.index), unix.MSG_DONTWAIT)
	return err
}

// Index asks the kernel each time: an interface that is made anew has another index.
func (n *network) Index(name string) (int, error) {
	for _, fd := range n.senders {
		request, err := unix.NewIfreq(name)
		if err != nil {
			return 0, fmt.Errorf("interface %q: %w", name, err)
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
			return 0, fmt.Errorf("interface %s: %w", name, err)
		}
		return int(request.Uint32()), nil
	}
	return 0, errors.New("there is no socket to ask for interface " + name)
}

// Source asks the kernel by a socket that sends nothing.
func (n *network) Source(peer netip.Addr, index int) (netip.Addr, error) {
	family := unix.AF_INET
	if peer.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(fd)
	if index != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index); err != nil {
			return netip.Addr{}, err
		}
	}
	if err := unix.Connect(fd, sockaddr(peer, singleHopPort, index)); err != nil {
		return netip.Addr{}, err
	}
	local, err := unix.Getsockname(fd)
	switch local := local.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(local.Addr), nil
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(local.Addr), nil
	}
	return netip.Addr{}, err
}

func (n *network) Close() {
	for s := range n.ports {
		n.closePort(s)
	}
	for ipv6, fd := range n.senders {
		_ = unix.Close(fd)
		delete(n.senders, ipv6)
	}
}

// sockaddr returns an address as the kernel takes it. It looks at the index of the interface
// only for a link-local one.
func sockaddr(a netip.Addr, port, index int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Port: port, Addr: a.As16(), ZoneId: uint32(index)}
}
