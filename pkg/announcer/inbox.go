package announcer

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/health"
	"baremetal.cloud/ccm/pkg/announcer/link"
	"baremetal.cloud/ccm/pkg/announcer/probe"
	"baremetal.cloud/ccm/pkg/announcer/sight"
)

// maxPackets bounds the packets that wait for the owner: some rounds of all peers there
// may be.
const maxPackets = 4096

// maxClaims bounds the claims of other machines that wait.
const maxClaims = 1024

// inbox collects what others tell the announcer until its owner looks. Of each kind only
// the newest is kept, and of packets a bounded number, so that nobody ever waits and
// nothing piles up.
type inbox struct {
	// wake has the owner look.
	wake func()

	// some says that there is something: an owner that looks for nothing has no lock to wait for.
	some    atomic.Bool
	mu      sync.Mutex
	pending news
}

// news is what happened since the owner last looked.
type news struct {
	// plans holds the newest plan of each replica: which counts is the core's to say.
	plans map[string]announcement.Set
	links *link.Snapshot
	// again are the indexes of interfaces whose addresses are to be announced again.
	again map[int]bool
	// health is what was learned last of the node's health.
	health *health.Result
	// packets are what peers said, in the order in which it came.
	packets []sight.Arrival
	// probes are what came of asking the segment for addresses.
	probes []probed
	// answers are what came of probing addresses, and claims who claims the node's.
	answers []answered
	claims  []probe.Holder
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

// answered is what came of probing: who has which of the addresses asked for, or that it failed.
type answered struct {
	asked   []announcement.Probe
	holders []probe.Holder
	failed  bool
}

func newInbox(wake func()) *inbox { return &inbox{wake: wake} }

// put changes the pending news and wakes the owner.
func (b *inbox) put(change func(*news)) {
	b.mu.Lock()
	change(&b.pending)
	b.some.Store(true)
	b.mu.Unlock()
	b.wake()
}

// hear takes a packet of a peer, and reports whether there was room for it.
func (b *inbox) hear(p sight.Arrival) bool {
	room := true
	b.put(func(n *news) {
		if room = len(n.packets) < maxPackets; room {
			n.packets = append(n.packets, p)
		}
	})
	return room
}

// claimed takes that a machine claims an address. Of what it cannot take it hears again.
func (b *inbox) claimed(h probe.Holder) {
	b.put(func(n *news) {
		if len(n.claims) < maxClaims {
			n.claims = append(n.claims, h)
		}
	})
}

// take returns the pending news and leaves none.
func (b *inbox) take() news {
	if !b.some.Load() {
		return news{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.pending
	b.pending = news{}
	b.some.Store(false)
	return taken
}
