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

	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// framesPause is the least time between two looks at how much an interface heard.
	framesPause = 50 * time.Millisecond
	// farewells is how often a node reports that it leaves: it cannot wait whether it is heard.
	farewells = 3
	// relistenAfter is the least time between two tries to open sockets to peers.
	relistenAfter = time.Second
)

// wire carries datagrams between peers; *failover.Network is one.
type wire interface {
	Set(ring *failover.Keyring, wanted map[failover.Socket]bool) error
	Send(from failover.Socket, to netip.AddrPort, datagram []byte, silent bool) error
	Drop(err error)
	Dropped() map[string]uint64
	Close()
}

var _ wire = (*failover.Network)(nil)

// peerTransport is how the announcer's owner speaks with peers: it carries out what the
// core's failover returns, and knows until when the node may answer.
type peerTransport struct {
	network wire
	peers   map[string]*peerLink
	// links are the interfaces as set found them, and interfaces the indexes of those on which
	// peers are reached.
	links      netstate.Snapshot
	interfaces []int
	failed     error
	retryAt    time.Duration
	looked     time.Duration
	frames     uint64
	// outlet is whether what is sent leaves the node.
	outlet failover.Outlet

	sent, unsent atomic.Uint64
	// deadline is until when the node may answer, in nanoseconds; 0 is without end.
	deadline atomic.Int64
}

// peerLink is how a peer is reached.
type peerLink struct {
	failover.Sealer
	failover.Destinations
	key plan.Key
	// index is the interface by which it was heard last.
	index int
}

// mayAnswer reports whether the node may answer: what it sent to peers last is so recent that
// none of them can have taken it for down. Each responder asks before it answers, so that none
// answers while the owner does not run.
func (n *peerTransport) mayAnswer() bool {
	deadline := n.deadline.Load()
	return deadline == 0 || int64(failover.Now()) < deadline
}

// setPeers follows a change of the plan or of the interfaces.
func (n *peerTransport) setPeers(boot time.Duration, c *core) error {
	c.rerouted = false
	n.links = netstate.Snapshot{}
	if c.links != nil {
		n.links = *c.links
	}
	own := n.links.Report()
	before := n.peers
	n.peers, n.interfaces = map[string]*peerLink{}, nil
	sockets := map[failover.Socket]bool{}
	for _, p := range c.nodePlan.Failover.Peers {
		if c.nodePlan.Failover.TransmitInterval == 0 {
			break
		}
		known := before[p.Node]
		if known == nil || known.key != p.Key {
			known = &peerLink{Sealer: failover.NewSealer(p.Key, c.node, p.Node), key: p.Key}
		}
		n.peers[p.Node] = known
		paths := failover.Reach(own, c.peerInterfaces.sharedWith(p.Node), p)
		known.Guess(paths)
		if len(paths) > 0 {
			n.addSockets(sockets, paths[0])
		}
	}
	n.outlet.Keep(n.uses)
	err := n.network.Set(failover.NewKeyring(c.node, c.nodePlan.Failover.Peers), sockets)
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
func (n *peerTransport) uses(index int) bool { return slices.Contains(n.interfaces, index) }

// addSockets adds to sockets those of the interface that path leads through: of both families, as far
// as the node has addresses, because a peer that has lost its own of one family comes by the other.
func (n *peerTransport) addSockets(sockets map[failover.Socket]bool, path failover.Path) {
	socket, i := n.socketFor(path)
	sockets[socket] = true
	if slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		sockets[failover.Socket{Index: i.Index, Name: i.Name}] = true
	}
	if len(i.LinkLocal) > 0 {
		sockets[failover.Socket{Index: i.Index, Name: i.Name, IPv6: true}] = true
	}
	if !n.uses(i.Index) {
		n.interfaces = append(n.interfaces, i.Index)
	}
}

// socketFor returns the socket from which path begins, and its interface.
func (n *peerTransport) socketFor(path failover.Path) (failover.Socket, netstate.Interface) {
	i, _ := n.links.Find(path.Interface)
	return failover.Socket{Index: i.Index, Name: i.Name, IPv6: path.To.Addr().Is6()}, i
}

// followPeer follows a peer to where its packet came from; counted is what failover made of that.
func (n *peerTransport) followPeer(from failover.Arrival, counted error) {
	peer, ok := n.peers[from.From]
	if !ok || counted != nil && !errors.Is(counted, failover.ErrUnproven) {
		return
	}
	path := failover.Path{Interface: from.Socket.Name, To: netip.AddrPortFrom(from.Source, failover.Port)}
	_, i := n.socketFor(path)
	if i.Index != from.Socket.Index || !failover.OnLink(i.Report(), from.Source) {
		return
	}
	if counted == nil {
		peer.Heard(path)
		peer.index = i.Index
	} else {
		peer.Unproven(path)
	}
}

// countHeard tells failover how much was heard from any sender, where that may come to count.
func (n *peerTransport) countHeard(boot time.Duration, s *failover.Node) {
	if !s.Apart() || boot < n.looked+framesPause {
		return
	}
	n.looked, n.frames = boot, 0
	for _, index := range n.interfaces {
		n.frames += netstate.Frames(index)
	}
	s.CountFrames(n.frames)
}

// sendHeartbeats sends what failover has to say, and moves the deadline.
func (n *peerTransport) sendHeartbeats(boot time.Duration, s *failover.Node) {
	before, tried, left := s.Rounds(), 0, 0
	for _, out := range s.Flush(boot) {
		peer, ok := n.peers[out.To]
		if !ok {
			continue
		}
		datagram := peer.Seal(out.Packet)
		for _, path := range peer.Next(out.Late) {
			tried++
			if n.sendDatagram(boot, path, datagram, out.Silent) {
				left++
			}
		}
	}
	n.outlet.Flushed(boot, s, before, left > 0 || tried == 0)
	n.deadline.Store(int64(n.outlet.Deadline(s)))
}

// sendDatagram reports whether a datagram left the node.
func (n *peerTransport) sendDatagram(boot time.Duration, path failover.Path, datagram []byte, silent bool) bool {
	from, _ := n.socketFor(path)
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

// muteInterfaces returns, by the index of the interface, why nothing is sent there though peers are heard, and
// where nothing is and none is heard.
func (n *peerTransport) muteInterfaces(boot time.Duration, s *failover.Node) (mute, others map[int]string) {
	return n.outlet.Mute(boot, s, func(index int) bool {
		for name, peer := range n.peers {
			if peer.index == index && s.Hears(name) {
				return true
			}
		}
		return false
	})
}

// newIncarnation returns the name of a life.
func newIncarnation() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // Never fails.
	return binary.BigEndian.Uint64(b[:]) | 1
}
