package announcer

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
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
	Send(from sight.Socket, to netip.AddrPort, datagram []byte, silent bool) error
	Drop(err error)
	Dropped() map[string]uint64
	Close()
}

var _ wire = (*sight.Network)(nil)

// neighbours is how the announcer's owner speaks with peers: it carries out what the
// core's sight returns, and knows until when the node may answer.
type neighbours struct {
	network wire
	peers   map[string]*neighbour
	// links are the interfaces as set found them, and interfaces the indexes of those on which
	// peers are reached.
	links      link.Snapshot
	interfaces []int
	failed     error
	retryAt    time.Duration
	looked     time.Duration
	frames     uint64
	// outlet is whether what is sent leaves the node.
	outlet sight.Outlet

	sent, unsent atomic.Uint64
	// deadline is until when the node may answer, in nanoseconds; 0 is without end.
	deadline atomic.Int64
}

// neighbour is how a peer is reached.
type neighbour struct {
	sight.Sealer
	sight.Destinations
	key announcement.Key
	// index is the interface by which it was heard last.
	index int
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
	n.links = link.Snapshot{}
	if c.links != nil {
		n.links = *c.links
	}
	own := n.links.Report()
	before := n.peers
	n.peers, n.interfaces = map[string]*neighbour{}, nil
	sockets := map[sight.Socket]bool{}
	for _, p := range c.set.Sight.Peers {
		if c.set.Sight.TransmitInterval == 0 {
			break
		}
		known := before[p.Node]
		if known == nil || known.key != p.Key {
			known = &neighbour{Sealer: sight.NewSealer(p.Key, c.node, p.Node), key: p.Key}
		}
		n.peers[p.Node] = known
		paths := sight.Reach(own, c.carriers.with(p.Node), p)
		known.Guess(paths)
		if len(paths) > 0 {
			n.open(sockets, paths[0])
		}
	}
	n.outlet.Keep(n.uses)
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

// uses reports whether peers are reached by an interface.
func (n *neighbours) uses(index int) bool { return slices.Contains(n.interfaces, index) }

// open adds to sockets those of the interface that path leads through: of both families, as far
// as the node has addresses, because a peer that has lost its own of one family comes by the other.
func (n *neighbours) open(sockets map[sight.Socket]bool, path sight.Path) {
	socket, i := n.socket(path)
	sockets[socket] = true
	if slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		sockets[sight.Socket{Index: i.Index, Name: i.Name}] = true
	}
	if len(i.LinkLocal) > 0 {
		sockets[sight.Socket{Index: i.Index, Name: i.Name, IPv6: true}] = true
	}
	if !n.uses(i.Index) {
		n.interfaces = append(n.interfaces, i.Index)
	}
}

// socket returns the socket from which path begins, and its interface.
func (n *neighbours) socket(path sight.Path) (sight.Socket, link.Interface) {
	i, _ := n.links.Find(path.Interface)
	return sight.Socket{Index: i.Index, Name: i.Name, IPv6: path.To.Addr().Is6()}, i
}

// heard follows a peer to where its packet came from; counted is what sight made of that.
func (n *neighbours) heard(from sight.Arrival, counted error) {
	peer, ok := n.peers[from.From]
	if !ok || counted != nil && !errors.Is(counted, sight.ErrUnproven) {
		return
	}
	path := sight.Path{Interface: from.Socket.Name, To: netip.AddrPortFrom(from.Source, sight.Port)}
	_, i := n.socket(path)
	if i.Index != from.Socket.Index || !sight.OnLink(i.Report(), from.Source) {
		return
	}
	if counted == nil {
		peer.Heard(path)
		peer.index = i.Index
	} else {
		peer.Unproven(path)
	}
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

// send sends what sight has to say, and moves the deadline.
func (n *neighbours) send(boot time.Duration, s *sight.Core) {
	before, tried, left := s.Rounds(), 0, 0
	for _, out := range s.Flush(boot) {
		peer, ok := n.peers[out.To]
		if !ok {
			continue
		}
		datagram := peer.Seal(out.Packet)
		for _, path := range peer.Next(out.Late) {
			tried++
			if n.sendBy(boot, path, datagram, out.Silent) {
				left++
			}
		}
	}
	n.outlet.Flushed(boot, s, before, left > 0 || tried == 0)
	n.deadline.Store(int64(n.outlet.Deadline(s)))
}

// sendBy reports whether a datagram left the node.
func (n *neighbours) sendBy(boot time.Duration, path sight.Path, datagram []byte, silent bool) bool {
	from, _ := n.socket(path)
	err := n.network.Send(from, path.To, datagram, silent)
	if err == nil {
		n.sent.Add(1)
		n.outlet.Sent(boot, from.Index, "")
		return true
	}
	n.unsent.Add(1)
	if n.uses(from.Index) {
		n.outlet.Sent(boot, from.Index, fmt.Sprintf("heartbeats cannot be sent on %s: %v", from.Name, err))
	}
	return false
}

// mute returns, by the index of the interface, why nothing is sent there though peers are heard, and
// where nothing is and none is heard.
func (n *neighbours) mute(boot time.Duration, s *sight.Core) (mute, others map[int]string) {
	return n.outlet.Mute(boot, s, func(index int) bool {
		for name, peer := range n.peers {
			if peer.index == index && s.Hears(name) {
				return true
			}
		}
		return false
	})
}

// newBoot returns the name of a life.
func newBoot() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // Never fails.
	return binary.BigEndian.Uint64(b[:]) | 1
}
