package announcer

import (
	"net/netip"
	"sync"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/health"
	"baremetal.cloud/ccm/pkg/announcer/link"
	"baremetal.cloud/ccm/pkg/announcer/sight"
)

// maxPackets bounds the packets that wait for the owner: some rounds of all peers there
// may be.
const maxPackets = 4096

// inbox collects what others tell the announcer until its owner looks. Of each kind only
// the newest is kept, and of packets a bounded number, so that nobody ever waits and
// nothing piles up.
type inbox struct {
	wake chan struct{} // of one; never closed

	mu      sync.Mutex
	pending news
}

// news is what happened since the owner last looked.
type news struct {
	// plans holds the newest plan of each replica: which counts is the core's to say.
	plans map[string]announcement.Set
	links *link.Snapshot
	// health is what was learned last of the node's health.
	health *health.Result
	// packets are what peers said, in the order in which it came.
	packets []sight.Packet
	// probes are what came of asking the segment for addresses.
	probes []probed
	// peersFailed says that a socket to peers failed.
	peersFailed bool
	// bgp is how the sessions to routers fare.
	bgp *bgp.State
	// socketFailed says that a reader's socket failed.
	socketFailed bool
}

// probed is what came of asking for addresses: of those answered another machine has.
type probed struct {
	asked    []netip.Addr
	answered map[netip.Addr]bool
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// put changes the pending news and wakes the owner.
func (b *inbox) put(change func(*news)) {
	b.mu.Lock()
	change(&b.pending)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// hear takes a packet of a peer, and reports whether there was room for it.
func (b *inbox) hear(p sight.Packet) bool {
	room := true
	b.put(func(n *news) {
		if room = len(n.packets) < maxPackets; room {
			n.packets = append(n.packets, p)
		}
	})
	return room
}

// take returns the pending news and leaves none.
func (b *inbox) take() news {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.pending
	b.pending = news{}
	return taken
}
