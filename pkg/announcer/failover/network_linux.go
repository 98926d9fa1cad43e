package failover

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer is asked for so that nothing is lost while the process waits for a
	// processor; the kernel may grant less. othersBuffer is for what is not known to come from
	// a peer, of which othersRate is read in a second, over all interfaces.
	receiveBuffer = 1 << 20
	othersBuffer  = 8 << 10
	othersRate    = 100
	// trafficClass is CS6, network control, which switches and qdiscs prefer; priority is
	// the socket's, the highest that needs no privilege.
	trafficClass = 0xc0
	priority     = 6
)

// Now returns the time by the clock that all of this package uses: it goes on while the
// machine sleeps, and it cannot be set.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("read CLOCK_BOOTTIME: %v", err)) // There since Linux 2.6.39.
	}
	return time.Duration(ts.Nano())
}

// Socket tells the sockets of a Network apart: there is one for each interface and family.
type Socket struct {
	// Index and Name are the interface's.
	Index int
	Name  string
	IPv6  bool
}

// Arrival is a packet, and where and from where it came.
type Arrival struct {
	Packet
	Socket Socket
	Source netip.Addr
}

// Network sends and receives datagrams. Set, Send and Close are called by one owner.
//
// Each interface and family has two sockets, between which the kernel divides what comes: what
// bears the identifier of a pair goes to one with a large buffer that is read at once. All the rest, from
// any sender and in any amount, goes to the other, with a small buffer that is read slowly, so that its
// causes can be counted.
type Network struct {
	receive func(Arrival)
	failed  func()
	ring    atomic.Pointer[Keyring]
	pairs   []pairID
	open    map[Socket]*conn
	readers sync.WaitGroup
	// poller, if not nil, says when to read what comes from peers, which goes to polled.
	poller Poller
	polled func(Arrival)

	mu      sync.Mutex
	dropped map[error]uint64
	// nextOther is when another datagram that is not known to come from a peer may be read.
	nextOther time.Duration
}

// Poller has its owner call ready whenever a socket that does not block has something.
type Poller interface {
	Add(socket int, ready func()) error
	// Remove ends that while the socket is open; it ends by itself when that is closed.
	Remove(socket int)
}

// conn is the two sockets of an interface and family.
type conn struct {
	socket        Socket
	peers, others *net.UDPConn
	broken        atomic.Bool
	// closed ends the pauses of the reader of others.
	closed chan struct{}
}

func (c *conn) closeSockets() {
	close(c.closed)
	_, _ = c.peers.Close(), c.others.Close()
}

// NewNetwork returns a Network without sockets. It calls receive, from goroutines of its
// own, with each packet that its keyring opens, and failed when a socket broke, which the
// next Set opens anew.
func NewNetwork(receive func(Arrival), failed func()) *Network {
	n := &Network{receive: receive, failed: failed, open: map[Socket]*conn{}, dropped: map[error]uint64{}}
	n.ring.Store(NewKeyring("", nil))
	return n
}

// PollBy makes the owner read what comes from peers, whenever p says so, and call polled with it in place
// of receive. It is called before Set.
func (n *Network) PollBy(p Poller, polled func(Arrival)) { n.poller, n.polled = p, polled }

// Set makes wanted the open sockets, in the calling thread's network namespace, and ring
// what opens datagrams. The error joins one for each socket that could not be opened.
func (n *Network) Set(ring *Keyring, wanted map[Socket]bool) error {
	n.ring.Store(ring)
	pairs := ring.sortedPairs()
	renewed := !slices.Equal(pairs, n.pairs)
	n.pairs = pairs
	for s, c := range n.open {
		if wanted[s] && !c.broken.Load() && renewed {
			c.broken.Store(c.setFilter(pairs) != nil)
		}
		if !wanted[s] || c.broken.Load() {
			c.closeSockets()
			delete(n.open, s)
		}
	}
	var failures []error
	for s := range wanted {
		if n.open[s] != nil {
			continue
		}
		c, err := listenOn(s, pairs)
		if err != nil {
			failures = append(failures, fmt.Errorf("heartbeats on %s: %w", s.Name, err))
			continue
		}
		if err := n.startReading(c); err != nil {
			failures = append(failures, fmt.Errorf("heartbeats on %s: %w", s.Name, err))
			c.closeSockets()
			continue
		}
		n.open[s] = c
	}
	return errors.Join(failures...)
}

// Send sends a datagram, and never waits. A peer that is not there is no error. What goes to a
// silent peer goes by another socket: the kernel keeps for some seconds what goes to a machine of
// which it has to ask for the hardware address, and a few that are dead fill what a socket may
// hold.
func (n *Network) Send(from Socket, to netip.AddrPort, datagram []byte, silent bool) error {
	c := n.open[from]
	if c == nil {
		return fmt.Errorf("heartbeats on %s: no socket", from.Name)
	}
	if !silent {
		return sendDatagram(c.peers, from, to, datagram)
	}
	if err := sendDatagram(c.others, from, to, datagram); !errors.Is(err, unix.EAGAIN) {
		return err
	}
	return nil // Machines that are not there have filled it.
}

// Drop counts a datagram that did not count, by its error; any goroutine may call it.
func (n *Network) Drop(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropped[err]++
}

// Dropped returns how many datagrams did not count, by one of DropCauses.
func (n *Network) Dropped() map[string]uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[string]uint64, len(n.dropped))
	for err, count := range n.dropped {
		out[err.Error()] = count
	}
	return out
}

// Close closes all sockets and returns once their readers have ended.
func (n *Network) Close() {
	for s, c := range n.open {
		c.closeSockets()
		delete(n.open, s)
	}
	n.readers.Wait()
}
