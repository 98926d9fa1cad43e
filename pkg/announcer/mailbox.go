package announcer

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/l2/probe"
	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/proxyhealth"
)

// maxPackets bounds the packets that wait for the owner: some rounds of all peers there
// may be.
const maxPackets = 4096

// maxClaims bounds the claims of other machines that wait.
const maxClaims = 1024

// mailbox collects what others tell the announcer until its owner looks. Of each kind only
// the newest is kept, and of packets a bounded number, so that no caller ever waits and nothing
// piles up.
type mailbox struct {
	// wake makes the owner look.
	wake func()

	// some reports whether there is something: an owner that looks for nothing has no lock to wait for.
	some    atomic.Bool
	mu      sync.Mutex
	pending events
}

// events is what happened since the owner last looked.
type events struct {
	// plans holds the newest plan of each replica: which counts is the core's to say.
	plans map[string]plan.NodePlan
	links *netstate.Snapshot
	// again are the indexes of interfaces whose addresses must be announced again.
	again map[int]bool
	// health is what was learned last of the node's health.
	health *proxyhealth.Result
	// packets are what peers said, in the order in which it came.
	packets []failover.Arrival
	// probes are what came of asking the segment for addresses.
	probes []probed
	// answers are what came of probing addresses, and claims which machines claim the node's.
	answers []answered
	claims  []probe.Holder
	// peersFailed reports whether a socket to peers failed.
	peersFailed bool
	// bgp is how the sessions to routers fare.
	bgp *bgp.State
	// socketFailed reports whether a reader's socket failed.
	socketFailed bool
}

// probed is what came of asking for addresses: of those answered another machine has.
type probed struct {
	asked    []netip.Addr
	answered map[netip.Addr]bool
}

// answered is what came of probing: which machine has which of the addresses asked for, or that
// it failed.
type answered struct {
	asked   []plan.Probe
	holders []probe.Holder
	failed  bool
}

func newMailbox(wake func()) *mailbox { return &mailbox{wake: wake} }

// addEvent changes the pending news and wakes the owner.
func (b *mailbox) addEvent(change func(*events)) {
	b.mu.Lock()
	change(&b.pending)
	b.some.Store(true)
	b.mu.Unlock()
	b.wake()
}

// addPacket takes a packet of a peer, and reports whether there was room for it.
func (b *mailbox) addPacket(p failover.Arrival) bool {
	room := true
	b.addEvent(func(n *events) {
		if room = len(n.packets) < maxPackets; room {
			n.packets = append(n.packets, p)
		}
	})
	return room
}

// addConflictClaim takes that a machine claims an address. Of what it cannot take it hears again.
func (b *mailbox) addConflictClaim(h probe.Holder) {
	b.addEvent(func(n *events) {
		if len(n.claims) < maxClaims {
			n.claims = append(n.claims, h)
		}
	})
}

// takeEvents returns the pending news and leaves none.
func (b *mailbox) takeEvents() events {
	if !b.some.Load() {
		return events{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.pending
	b.pending = events{}
	b.some.Store(false)
	return taken
}
