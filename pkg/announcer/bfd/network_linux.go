package bfd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/bfd/protocol"
)

const (
	// receiveBuffer is asked for so that nothing is lost while the process waits for a
	// processor; the kernel may grant less.
	receiveBuffer = 1 << 20
	// trafficClass is CS6, network control, which switches and qdiscs prefer; priority is
	// the socket's, the highest that needs no privilege.
	trafficClass = 0xc0
	priority     = 6
	// maxWaiting bounds what a socket has read and the owner not seen.
	maxWaiting = 4096
	// sourcePortTries is how many ports are tried to send from.
	sourcePortTries = 100
)

// now returns the time by a clock that goes on while the machine sleeps, and nobody sets.
func now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("read CLOCK_BOOTTIME: %v", err)) // There since Linux 2.6.39.
	}
	return time.Duration(ts.Nano())
}

// network is the wire of real sockets: one for each family and port that receives, and one for
// each family that sends. Its methods are called by one owner.
type network struct {
	wake      func()
	loop      Loop // or nil
	receivers map[socket]*receiver
	senders   map[bool]*sender // by whether they are for IPv6
	readers   sync.WaitGroup
}

var _ wire = (*network)(nil)

// newNetwork returns one without sockets. It calls wake, from goroutines of its own, when
// there is something to receive or a socket broke. With a loop the owner reads.
func newNetwork(wake func(), loop Loop) *network {
	return &network{wake: wake, loop: loop, receivers: map[socket]*receiver{}, senders: map[bool]*sender{}}
}

func (n *network) Open(wanted map[socket]bool) error {
	families := map[bool]bool{}
	for s := range wanted {
		families[s.ipv6] = true
	}
	for s, r := range n.receivers {
		if !wanted[s] || r.broken.Load() {
			_ = r.Close()
			delete(n.receivers, s)
		}
	}
	for ipv6, s := range n.senders {
		if !families[ipv6] {
			_ = s.Close()
			delete(n.senders, ipv6)
		}
	}
	var failures []error
	for s := range wanted {
		if n.receivers[s] == nil {
			failures = append(failures, n.listen(s))
		}
	}
	for ipv6 := range families {
		if n.senders[ipv6] == nil {
			failures = append(failures, n.dial(ipv6))
		}
	}
	return errors.Join(failures...)
}

// bind opens a socket on a port of all addresses of the host.
func bind(ipv6 bool, port int, options func(fd int) error) (*net.UDPConn, syscall.RawConn, error) {
	protocol, host := "udp4", netip.IPv4Unspecified()
	if ipv6 {
		protocol, host = "udp6", netip.IPv6Unspecified()
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if failed := raw.Control(func(fd uintptr) { err = options(int(fd)) }); failed != nil {
			return failed
		}
		return err
	}}
	c, err := config.ListenPacket(context.Background(), protocol, netip.AddrPortFrom(host, uint16(port)).String())
	if err != nil {
		return nil, nil, err
	}
	conn := c.(*net.UDPConn)
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, raw, nil
}

func (n *network) listen(s socket) error {
	port := singleHopPort
	if s.multihop {
		port = multihopPort
	}
	conn, raw, err := bind(s.ipv6, port, func(fd int) error {
		level, about, limit := unix.IPPROTO_IP, unix.IP_PKTINFO, unix.IP_RECVTTL
		if s.ipv6 {
			level, about, limit = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, unix.IPV6_RECVHOPLIMIT
		}
		return errors.Join(
			unix.SetsockoptInt(fd, level, about, 1),
			unix.SetsockoptInt(fd, level, limit, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer),
		)
	})
	if err != nil {
		return fmt.Errorf("receive on %s: %w", s, err)
	}
	r := &receiver{UDPConn: conn, raw: raw, socket: s, empty: now()}
	if err := n.begin(r); err != nil {
		return errors.Join(fmt.Errorf("receive on %s: %w", s, err), conn.Close())
	}
	n.receivers[s] = r
	return nil
}

// begin has r read.
func (n *network) begin(r *receiver) (err error) {
	if n.loop == nil {
		n.readers.Go(func() { r.run(n.wake) })
		return nil
	}
	ready := func() {
		_ = r.raw.Control(func(fd uintptr) { // It fails once the socket is closed.
			if _, err := r.read(int(fd)); err != nil {
				n.loop.Remove(int(fd))
				r.broken.Store(true)
			}
		})
	}
	if failed := r.raw.Control(func(fd uintptr) { err = n.loop.Add(int(fd), ready) }); failed != nil {
		return failed
	}
	return err
}

func (n *network) dial(ipv6 bool) error {
	level, class, limit := unix.IPPROTO_IP, unix.IP_TOS, unix.IP_TTL
	if ipv6 {
		level, class, limit = unix.IPPROTO_IPV6, unix.IPV6_TCLASS, unix.IPV6_UNICAST_HOPS
	}
	var err error
	for range sourcePortTries {
		var conn *net.UDPConn
		var raw syscall.RawConn
		conn, raw, err = bind(ipv6, firstSourcePort+rand.IntN(1<<16-firstSourcePort), func(fd int) error {
			return errors.Join(
				unix.SetsockoptInt(fd, level, class, trafficClass),
				unix.SetsockoptInt(fd, level, limit, singleHopTTL),
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, priority),
			)
		})
		if err == nil {
			n.senders[ipv6] = &sender{conn, raw}
			return nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return fmt.Errorf("send BFD packets: %w", err)
}

func (n *network) Broken() bool {
	for _, r := range n.receivers {
		if r.broken.Load() {
			return true
		}
	}
	return false
}

func (n *network) Receive(everything bool) (some []datagram, lost uint64) {
	for _, r := range n.receivers {
		if everything {
			// Not by Read, which waits while run is in it. What fails here fails there too.
			_ = r.raw.Control(func(fd uintptr) { _, _ = r.read(int(fd)) })
		}
		waiting, more := r.take()
		some, lost = append(some, waiting...), lost+more
	}
	return some, lost
}

func (n *network) Send(o outgoing) error {
	s := n.senders[o.ipv6]
	if s == nil {
		return errors.New("there is no socket to send from")
	}
	return s.send(o)
}

func (n *network) Index(name string) (int, error) {
	for _, s := range n.senders {
		return s.index(name)
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
	for _, r := range n.receivers {
		_ = r.Close()
	}
	for _, s := range n.senders {
		_ = s.Close()
	}
	n.readers.Wait()
}

// sockaddr returns an address as the kernel takes it. It looks at the index of the interface
// only for a link-local one.
func sockaddr(a netip.Addr, port, index int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Port: port, Addr: a.As16(), ZoneId: uint32(index)}
}

// sender is a socket that packets are sent from.
type sender struct {
	*net.UDPConn
	raw syscall.RawConn
}

// send sends a datagram, unless it would have to wait.
func (s *sender) send(o outgoing) error {
	port := singleHopPort
	if o.multihop {
		port = multihopPort
	}
	var about []byte
	if o.ipv6 {
		about = unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(o.index), Addr: o.from.As16()})
	} else {
		about = unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(o.index), Spec_dst: o.from.As4()})
	}
	to := sockaddr(o.to, port, o.index)
	var err error
	if failed := s.raw.Control(func(fd uintptr) {
		_, err = unix.SendmsgN(int(fd), o.octets, about, to, unix.MSG_DONTWAIT)
	}); failed != nil {
		return failed
	}
	return err
}

// index asks the kernel each time: an interface that is made anew has another index.
func (s *sender) index(name string) (int, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("interface %q: %w", name, err)
	}
	if failed := s.raw.Control(func(fd uintptr) { err = unix.IoctlIfreq(int(fd), unix.SIOCGIFINDEX, request) }); failed != nil {
		return 0, failed
	}
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	return int(request.Uint32()), nil
}

// receiver is a socket that packets arrive at. A goroutine of its own reads them as they come,
// and the owner reads what is there when it must know that nothing is left.
type receiver struct {
	*net.UDPConn
	raw    syscall.RawConn
	socket socket
	broken atomic.Bool

	mu      sync.Mutex
	waiting []datagram
	lost    uint64
	// empty is a time at which everything that had come was read.
	empty time.Duration
	// octets and about are room for one datagram and what the kernel says of it.
	octets [protocol.MaxPacket]byte
	about  [256]byte
}

// run reads until the socket is closed or fails.
func (r *receiver) run(wake func()) {
	for {
		var failure error
		err := r.raw.Read(func(fd uintptr) bool {
			var some bool
			some, failure = r.read(int(fd))
			return some || failure != nil
		})
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || failure != nil {
			r.broken.Store(true)
			wake()
			return
		}
		wake()
	}
}

// take returns what was read, and how many more there was no room for.
func (r *receiver) take() (waiting []datagram, lost uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting, lost = r.waiting, r.lost
	r.waiting, r.lost = nil, 0
	return waiting, lost
}

// read takes all datagrams that are there, and reports whether there was any. The lock is
// held from the socket to the list: nothing is ever out of both.
func (r *receiver) read(fd int) (some bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		before := now()
		size, aboutSize, flags, from, err := unix.Recvmsg(fd, r.octets[:], r.about[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			r.empty = before
			return some, nil
		case err != nil:
			return some, err
		}
		some = true
		if flags&unix.MSG_CTRUNC != 0 || len(r.waiting) == maxWaiting {
			r.lost++
			continue
		}
		d := datagram{socket: r.socket, ttl: -1, at: before, octets: append([]byte(nil), r.octets[:size]...)}
		switch from := from.(type) {
		case *unix.SockaddrInet4:
			d.from = netip.AddrFrom4(from.Addr)
		case *unix.SockaddrInet6:
			d.from = netip.AddrFrom16(from.Addr)
		}
		r.describe(&d, r.about[:aboutSize])
		r.waiting = append(r.waiting, d)
	}
}

// describe adds what the kernel says of a datagram.
func (r *receiver) describe(d *datagram, about []byte) {
	for len(about) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(about)
		if err != nil {
			return
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
			d.at = r.arrival(time.Unix(int64(native.Uint64(data)), int64(native.Uint64(data[8:]))))
		}
	}
}

// arrival returns when a datagram came whose arrival the kernel stamped by the clock on the
// wall. Whoever sets that clock meanwhile moves no arrival out of the time since the socket
// was empty.
func (r *receiver) arrival(stamp time.Time) time.Duration {
	read := now()
	age := time.Since(stamp.Round(0))
	return min(max(read-age, r.empty), read)
}
