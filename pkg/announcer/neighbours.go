package announcer

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/link"
	"baremetal.cloud/ccm/pkg/announcer/sight"
)

const (
	// framesPause is the least time between two looks at how much an interface heard.
	framesPause = 50 * time.Millisecond
	// farewells is how often a node says that it leaves: it cannot wait whether it is heard.
	farewells = 3
	// relistenAfter is the least time between two tries to open sockets to peers.
	relistenAfter = time.Second
)

// wire carries datagrams between peers; *sight.Network is one.
type wire interface {
	Set(ring *sight.Keyring, wanted map[sight.Socket]bool) error
	Send(from sight.Socket, to netip.AddrPort, datagram []byte) error
	Drop(err error)
	Dropped() map[string]uint64
	Close()
}

var _ wire = (*sight.Network)(nil)

// neighbours is how the announcer's owner speaks with peers: it carries out what the
// core's sight returns, and knows until when the node may answer.
type neighbours struct {
	network wire
	paths   map[string]path
	keys    map[string]announcement.Key
	// interfaces are the indexes of those on which peers are reached.
	interfaces []int
	failed     error
	retryAt    time.Duration
	looked     time.Duration
	frames     uint64

	sent, unsent atomic.Uint64
	// deadline is until when the node may answer, in nanoseconds; 0 is without end.
	deadline atomic.Int64
}

// path is how a peer is reached.
type path struct {
	sight.Path
	socket sight.Socket
}

// allowed says whether the node may answer: what it sent to peers last is so recent that
// none of them can have taken it for down. Whoever answers asks, so that nobody does while
// the owner does not run.
func (n *neighbours) allowed() bool {
	deadline := n.deadline.Load()
	return deadline == 0 || int64(sight.Now()) < deadline
}

// set follows a change of the plan or of the interfaces.
func (n *neighbours) set(boot time.Duration, c *core) error {
	c.rerouted = false
	var links link.Snapshot
	if c.links != nil {
		links = *c.links
	}
	own := links.Report()
	n.paths, n.keys, n.interfaces = map[string]path{}, map[string]announcement.Key{}, nil
	sockets := map[sight.Socket]bool{}
	for _, p := range c.set.Sight.Peers {
		n.keys[p.Node] = p.Key
		found, ok := sight.Reach(own, c.carriers.with(p.Node), p)
		if !ok || c.set.Sight.TransmitInterval == 0 {
			continue
		}
		i, _ := links.Find(found.Interface)
		socket := sight.Socket{Index: i.Index, Name: i.Name, IPv6: found.To.Addr().Is6()}
		n.paths[p.Node] = path{found, socket}
		sockets[socket] = true
		if !slices.Contains(n.interfaces, i.Index) {
			n.interfaces = append(n.interfaces, i.Index)
		}
	}
	err := n.network.Set(sight.NewKeyring(c.node, c.set.Sight.Peers), sockets)
	n.retryAt = 0
	if err != nil {
		n.retryAt = boot + relistenAfter
	}
	if fmt.Sprint(err) == fmt.Sprint(n.failed) {
		return nil
	}
	n.failed = err
	return err
}

// look tells sight how much was heard from anybody, where that may come to count.
func (n *neighbours) look(boot time.Duration, s *sight.Core) {
	if !s.Apart() || boot < n.looked+framesPause {
		return
	}
	n.looked, n.frames = boot, 0
	for _, index := range n.interfaces {
		n.frames += link.Frames(index)
	}
	s.Heard(n.frames)
}

// send sends what sight has to say, and moves the deadline: it counts from before the
// first of the packets.
func (n *neighbours) send(boot time.Duration, s *sight.Core) {
	for _, out := range s.Flush(boot) {
		p, ok := n.paths[out.To]
		if !ok {
			continue
		}
		if err := n.network.Send(p.socket, p.To, sight.Seal(out.Packet, out.To, n.keys[out.To])); err != nil {
			n.unsent.Add(1)
			continue
		}
		n.sent.Add(1)
	}
	n.deadline.Store(int64(s.Deadline()))
}

// newBoot returns the name of a life.
func newBoot() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // Never fails.
	return binary.BigEndian.Uint64(b[:]) | 1
}
