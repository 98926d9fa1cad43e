package failover

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/internal/addressqueue"
	"baremetal.cloud/ccm/pkg/announcer/internal/timerqueue"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// askAgain is how long the answer of the segment to a probe counts.
	askAgain = time.Second
	// hurry is the least time between two packets to a peer that answer something of it.
	hurry = 10 * time.Millisecond
	// companyWeight is how many frames of any sender a packet of a peer counts for.
	companyWeight = 100
)

// List is a candidate list as the node's own plan has it.
type List struct {
	Address    netip.Addr
	Version    plan.Version
	Candidates []string
	// Former and Proofs are as in plan.Assignment.
	Former []string
	Proofs []byte
	// Able reports whether the node is able to answer for the address.
	Able bool
	// Ready reports whether traffic for the address would be served here.
	Ready bool
	// Mute reports whether what the node sends to peers does not leave it where they are heard: no peer
	// hears what it claims.
	Mute bool
	// Unconfirmed reports whether the list is one that an earlier life of the node was given, so
	// that by now others than its candidates may answer.
	Unconfirmed bool
}

// ready reports whether the node may take the address before others that are not.
func (l List) ready() bool { return l.Ready && !l.Mute }

// namesFirst reports whether the list names node as the owner.
func (l List) namesFirst(node string) bool { return len(l.Candidates) > 0 && l.Candidates[0] == node }

// Node is what a node knows and claims. It is pure and has one owner. For everything that happened
// the owner calls one of Configure, Put, Drop, Receive, SetProbeResults, PeerAnnounced, CountFrames,
// Listen, Restart and Leave, then Reconcile, carries out what Claim then says of the addresses that
// it returns, and only then sends what Flush returns. What one change costs does not depend on how
// many lists there are; where more are concerned than SetBatchSize allows, Reconcile decides about
// some, and Wake returns when to call it again. All times are of one clock that goes on while the
// machine sleeps and never shows zero.
type Node struct {
	name             string
	incarnation, seq uint64

	interval, detect time.Duration
	peers            map[string]*peer
	sorted           []*peer // by name
	lists            map[netip.Addr]*entry
	claims           claims
	proofs           proofs
	// claimants are, by address, the peers that claim it, be they up or not.
	claimants          map[netip.Addr][]*peer
	leaving, unhealthy bool
	// stuck reports whether nothing of what went to all peers last left the node, and unsent the same
	// when Settle was called last.
	stuck, unsent bool
	frames        uint64 // heard from any sender so far
	// up is how many peers are heard, companions how many hear this node too and have for a while.
	up, bidirectionalPeers int

	// heard is when a packet of some peer counted last, and silence the last time when
	// for a while none did.
	heard   time.Duration
	silence struct{ from, until time.Duration }

	// listening reports whether the node watched a peer since its last restart, and until is how
	// long it waits for those that it has not heard.
	listening bool
	until     time.Duration
	// dirty are the addresses that something happened to which bears on their claims; all
	// reports that it happened to all of them. Time itself does when again says. At most share
	// of them are decided about at a time, urgent ones first: those that the node claims and a
	// peer spoke of, and those that had no list before.
	dirty     addressqueue.Queue
	all       bool
	batchSize int
	again     *timerqueue.Queue[time.Duration]
	// others is what the Input made last has of others, of which the next one needs the memory.
	others []Peer
	// waiting are the addresses that were decided about while claims of a peer that is up were
	// still on their way, and since when.
	waiting map[netip.Addr]time.Duration
	// changedOwn are the addresses whose claims changed since Reconcile returned them,
	// toReannounce and toReannounceNow those that TakeReannounce and TakeReannounceNow return
	// next.
	changedOwn, toReannounce, toReannounceNow map[netip.Addr]bool

	// asks are the addresses to ask the segment for.
	asks addressqueue.Queue
	// changed are the addresses with claims that peers have not heard of.
	changed map[netip.Addr]bool
	// round is when packets went to all peers last.
	round  time.Duration
	rounds uint64
	next   time.Duration
}

// entry is a list and what happened with its address.
type entry struct {
	List
	since time.Duration
	// waited is when the node last ceased to wait for what a peer claims.
	waited    time.Duration
	restarted bool
	// current reports whether a node claimed the address under this list. After that no node
	// answers for it under an older one.
	current bool
	probe   Probe
	probed  time.Duration
	// records are of the peers that announced the address while the node claimed it, one of each,
	// the newest last; reannounced is when the node last answered back.
	records     []announcementRecord
	reannounced time.Duration
	// silence reports whether the node claims the address because no host answered.
	silence bool
	// old is the list under which the node claims the address still, where it is another one.
	old *List
	// lapsed reports whether the node gave the address up though its list names it first, and
	// lapse is until when it leaves it to a peer under a newer list that does so again.
	lapsed bool
	lapse  time.Duration
}

// NewNode returns the core of a node that has just begun a life, which boot names.
func NewNode(node string, boot uint64) *Node {
	return &Node{
		name: node, incarnation: boot, peers: map[string]*peer{}, lists: map[netip.Addr]*entry{},
		claimants: map[netip.Addr][]*peer{}, batchSize: math.MaxInt, again: timerqueue.New(cmp.Compare[time.Duration]),
		waiting: map[netip.Addr]time.Duration{}, changedOwn: map[netip.Addr]bool{}, toReannounce: map[netip.Addr]bool{}, toReannounceNow: map[netip.Addr]bool{}, changed: map[netip.Addr]bool{},
	}
}

// Configure takes which peers the plan makes the node watch, and how. Without a transmit interval
// the first candidate of each list claims, if able, and no peer is watched.
func (c *Node) Configure(now time.Duration, s plan.Failover) {
	interval, detect := c.interval, c.detect
	c.interval = s.TransmitInterval
	c.detect = min(s.TransmitInterval*time.Duration(max(s.DetectMultiplier, 1)), maxDetect)
	if c.detect != detect {
		c.next = now // Peers must know how long to wait for the next packet.
	}
	if c.setPeers(now, s.Peers) || c.interval != interval {
		c.all = true
	}
	c.setProofKey(s.ProofKey)
}

// Put takes up a list, or takes over what is new about one.
func (c *Node) Put(now time.Duration, l List) {
	if c.lists[l.Address] == nil {
		c.dirty.AddUrgent(l.Address)
	} else {
		c.dirty.Add(l.Address)
	}
	c.lists[l.Address] = c.putEntry(now, l)
}

// Drop gives up the list of address.
func (c *Node) Drop(address netip.Addr) {
	if e := c.lists[address]; e != nil {
		c.keepCounting(e)
	}
	delete(c.lists, address)
	c.dirty.Add(address)
}

// putEntry returns what is known with l's address under l.
func (c *Node) putEntry(now time.Duration, l List) *entry {
	e := c.lists[l.Address]
	switch {
	case e == nil:
		e = &entry{since: now, restarted: now < c.until}
	case e.Version != l.Version:
		c.keepCounting(e)
		e.keepProofs(c.claims.versionOf(l.Address))
		e.since, e.probe, e.restarted, e.current = now, Unasked, now < c.until, false
		e.lapsed, e.lapse = e.lapsed && l.namesFirst(c.name), now+lapseTime
		c.carryRecords(now, l.Address, e)
	case l.Able && !e.Able, l.ready() && !e.ready():
		e.since, e.probe = now, Unasked
	}
	e.List = l
	return e
}

// setPeers makes peers those that are watched, and reports whether they are others than before.
func (c *Node) setPeers(now time.Duration, peers []plan.Peer) bool {
	wanted := make(map[string]*peer, len(peers))
	if c.interval > 0 {
		for _, p := range peers {
			if p.Node != c.name {
				wanted[p.Node] = c.peers[p.Node]
			}
		}
	}
	changed := len(wanted) != len(c.peers)
	for name, known := range wanted {
		if known == nil {
			wanted[name] = c.newPeer(name, now)
			// One that comes to be watched while this node lives is no reason to tell the LAN.
			wanted[name].missed = !c.listening
			c.next, changed = now, true
			for _, e := range c.lists {
				e.forgetRecords(func(w announcementRecord) bool { return w.peer == name })
			}
		}
	}
	for name, p := range c.peers {
		if wanted[name] == nil {
			c.forgetClaims(p)
		}
	}
	c.peers = wanted
	c.sorted = slices.SortedFunc(maps.Values(wanted), func(p, q *peer) int { return cmp.Compare(p.name, q.name) })
	if len(wanted) == 0 {
		return changed
	}
	if !c.listening {
		c.Listen(now)
		c.round = now
	}
	c.listening = true
	return changed
}

// Listen takes that the node could not hear others until now: what it knew of them no longer
// counts, and for a while it claims nothing that one of them may have.
func (c *Node) Listen(now time.Duration) {
	c.all = true
	c.until = now + c.detect
	for _, p := range c.sorted {
		p.resetPeer(now)
	}
	for _, e := range c.lists {
		e.restarted, e.probe, e.since = true, Unasked, now
	}
}

// Overslept reports whether nothing was sent for so long that peers may have taken the node for
// down. Its owner is then to drop what is queued, and to call Restart.
func (c *Node) Overslept(now time.Duration) bool {
	return len(c.peers) > 0 && now-c.round >= c.detect
}

// Restart begins another life: claims end and nothing is known of any peer.
func (c *Node) Restart(now time.Duration, boot uint64) {
	c.incarnation = boot
	for i, p := range c.sorted {
		c.sorted[i] = c.newPeer(p.name, now)
		c.sorted[i].claimWait = p.claimWait
		c.sorted[i].claimWait.stopWait(p.heard)
		c.peers[p.name] = c.sorted[i]
	}
	clear(c.claimants)
	for _, e := range c.lists {
		e.records, e.reannounced = nil, 0
	}
	for claim := range c.claims.held.All() {
		c.changedOwn[claim.Address] = true
	}
	c.claims = claims{}
	c.changed = map[netip.Addr]bool{}
	c.round, c.next = now, now
	c.Listen(now)
}

// Leave ends all claims for good, with the next Settle; the next Flush tells peers.
func (c *Node) Leave() { c.leaving, c.all, c.batchSize = true, true, math.MaxInt }

// SetBatchSize has Settle decide about at most so many addresses, and Ask return no more.
func (c *Node) SetBatchSize(share int) { c.batchSize = share }

// SetUnhealthy takes whether the node fails to serve traffic as it should: what it claims then
// goes to nodes that serve it.
func (c *Node) SetUnhealthy(now time.Duration, unhealthy bool) {
	if c.unhealthy != unhealthy {
		c.unhealthy, c.all, c.next = unhealthy, true, now // Peers must know.
	}
}

// CountFrames takes how many frames the node's interfaces heard so far from any sender.
func (c *Node) CountFrames(frames uint64) {
	c.frames = frames
	for _, p := range c.sorted {
		if p.rebase {
			p.base, p.rebase = frames, false
		}
	}
}

// SetProbeResults takes what came of asking the segment for addresses: another machine has those
// in answered, none has the others.
func (c *Node) SetProbeResults(now time.Duration, asked []netip.Addr, answered map[netip.Addr]bool) {
	for _, address := range asked {
		if e := c.lists[address]; e != nil && e.probe == Asking {
			e.probe, e.probed = Answered, now
			if !answered[address] {
				e.probe = Silent
				e.records = nil
			}
			c.dirty.Add(address)
		}
	}
}

// TakeProbes returns addresses, sorted, to ask the segment for; each is returned once until
// SetProbeResults tells of it. Where there are very many the others come with the next calls.
func (c *Node) TakeProbes() []netip.Addr {
	if c.asks.Len() == 0 {
		return nil
	}
	return slices.SortedFunc(slices.Values(c.asks.Take(c.batchSize)), netip.Addr.Compare)
}

// TakeReannounce returns the addresses, sorted, that the node claims and that until now a peer may
// have had too: its claim to them has ended, or the two hear each other again, and it claims
// them not but may have meanwhile. What the LAN was told last may be that peer's word. Each
// is returned once.
func (c *Node) TakeReannounce() []netip.Addr {
	return slices.DeleteFunc(takeSorted(&c.toReannounce), func(address netip.Addr) bool { return c.claims.versionOf(address).IsZero() })
}

// takeSorted returns what is in addresses, sorted, and leaves nothing.
func takeSorted(addresses *map[netip.Addr]bool) []netip.Addr {
	if len(*addresses) == 0 {
		return nil
	}
	out := slices.SortedFunc(maps.Keys(*addresses), netip.Addr.Compare)
	*addresses = map[netip.Addr]bool{}
	return out
}

// reannounce notes that a peer that may have had address has it no more.
func (c *Node) reannounce(address netip.Addr) {
	if !c.claims.versionOf(address).IsZero() {
		c.toReannounce[address] = true
	}
}

// Claims returns what the node claims.
func (c *Node) Claims() plan.Index[plan.Claim] { return c.claims.held }

// Claim returns the version of the node's claim to address, or zero.
func (c *Node) Claim(address netip.Addr) plan.Version { return c.claims.versionOf(address) }

// Claimant returns the peer that is known to answer for address, or "".
func (c *Node) Claimant(address netip.Addr) string {
	first := ""
	for _, p := range c.claimants[address] {
		if p.state == Up && !c.countedClaim(p, address).IsZero() && (first == "" || p.name < first) {
			first = p.name
		}
	}
	if first == "" {
		return c.Unheard(address)
	}
	return first
}

// Peers returns the peers in state, sorted by name.
func (c *Node) Peers(state State) []string {
	var out []string
	for _, p := range c.sorted {
		if p.state == state {
			out = append(out, p.name)
		}
	}
	return out
}

// Counts returns how many peers are in each State.
func (c *Node) Counts() [3]int {
	var out [3]int
	for _, p := range c.sorted {
		out[p.state]++
	}
	return out
}

// Hears reports whether a node is a peer that is heard.
func (c *Node) Hears(node string) bool {
	p := c.peers[node]
	return p != nil && p.state == Up
}

// Apart reports whether some peer is not heard, so that Heard has to be called before Receive.
func (c *Node) Apart() bool {
	for _, p := range c.sorted {
		if p.state != Up {
			return true
		}
	}
	return false
}

// Deadline returns until when peers wait for what goes to all of them next; zero is without end,
// where it watches no peer.
func (c *Node) Deadline() time.Duration {
	if len(c.peers) == 0 {
		return 0
	}
	return c.round + c.detect
}

// Rounds counts how often packets went to all peers, whether or not they left the node.
func (c *Node) Rounds() uint64 { return c.rounds }

// Detect returns for how long a peer that hears nothing of this node waits.
func (c *Node) Detect() time.Duration { return c.detect }

// Undecided reports whether Settle has more to do at once, which Pace put off.
func (c *Node) Undecided() bool { return c.all || c.dirty.Len() > 0 }

// Busy reports whether Settle or Ask has.
func (c *Node) Busy() bool { return c.Undecided() || c.asks.Len() > 0 }

// Wake returns when Settle and Flush have something to do though nothing happened; zero
// is never.
func (c *Node) Wake() time.Duration {
	if c.Busy() {
		return 1 // Long past.
	}
	next, _ := c.again.Next()
	if len(c.peers) > 0 {
		next = earlierTime(next, c.next)
	}
	for _, p := range c.sorted {
		if p.state == Up {
			next = earlierTime(next, p.heard+p.detect)
		}
		if p.bidirectional.since != 0 && !p.bidirectional.kept {
			next = earlierTime(next, p.bidirectional.since+c.detect)
		}
		if p.urgent || p.whole && p.state == Up {
			next = earlierTime(next, p.told+hurry)
		}
	}
	return next
}
