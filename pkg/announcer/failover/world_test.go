package failover

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// world is a LAN of cores in a time of its own.
type world struct {
	now    time.Duration
	random *rand.Rand
	events events
	nodes  map[string]*station
	names  []string
	// stations are the nodes, as names has them.
	stations []*station
	settings plan.Failover
	// latency returns how long a packet is under way.
	latency func() time.Duration
	// lost says whether a packet does not arrive; cut pairs lose every frame.
	lost func(from, to string) bool
	cut  map[[2]string]bool
	// blocked pairs lose what they say to each other, and nothing else: a firewall does that.
	blocked map[[2]string]bool
	// arrival is when the newest packet of each pair arrives: none overtakes another.
	arrival map[[2]string]time.Duration
	provers map[string]*plan.Prover
	// moving says that addresses of nodes move, so that there are others that do not.
	moving bool
	// share, if not 0, is how many addresses a core decides about at a time, and hesitation
	// the time between.
	share      int
	hesitation time.Duration
	// onTurn is called whenever who answers may have changed.
	onTurn func()
	// wrong is the first thing that a core left undone that has to do with every list.
	wrong error
	order uint64
}

// station is a node, its announcer and its network interface.
type station struct {
	name   string
	core   *Node
	alive  bool
	paused bool
	queue  []arrived
	// address is where it is now, guess where leaders last heard that it is, lasting another
	// address, which stays, and peers where it finds its own peers.
	address, guess, lasting netip.Addr
	peers                   map[string]*Destinations
	plan                    plan.NodePlan
	unable                  map[netip.Addr]bool
	// unready and unhealthy are what the node's service proxy is; who is unhealthy is unready.
	unready, unhealthy bool
	// kept says that the plan is from an earlier life and no leader stands by it yet.
	kept   bool
	frames uint64
	wake   time.Duration
	// began is when the node began to claim an address, told when it last had a reason to
	// announce it anew.
	began, told map[netip.Addr]time.Duration
	// words are when it last heard others announce what it answers for.
	words map[announced]time.Duration
	// left says that the life before this one ended by SIGTERM.
	left bool
	// mute says that it can send nothing to its peers, and outlet is what it knows of that: muted
	// that it has not sent for long, and failing that it has not and hears peers.
	mute           bool
	outlet         Outlet
	muted, failing bool
	// mumbles says that it has others ask for claims that it never tells.
	mumbles bool
}

// arrived is a packet and where it came from.
type arrived struct {
	Packet
	source netip.Addr
}

// announced is that a node announces an address.
type announced struct {
	from    string
	address netip.Addr
}

type event struct {
	at    time.Duration
	order uint64
	do    func()
}

func (e event) compare(f event) int {
	return cmp.Or(cmp.Compare(e.at, f.at), cmp.Compare(e.order, f.order))
}

// events is a heap, the earliest first. container/heap would box each of the billions of
// events of a long simulation.
type events []event

func (e *events) push(added event) {
	*e = append(*e, added)
	h := *e
	at := len(h) - 1
	for up := (at - 1) / 2; at > 0 && added.compare(h[up]) < 0; up = (at - 1) / 2 {
		h[at], at = h[up], up
	}
	h[at] = added
}

func (e *events) pop() event {
	h := *e
	first, moved := h[0], h[len(h)-1]
	h[len(h)-1] = event{}
	h = h[:len(h)-1]
	*e = h
	if len(h) == 0 {
		return first
	}
	at := 0
	for down := 1; down < len(h); down = 2*at + 1 {
		if down+1 < len(h) && h[down+1].compare(h[down]) < 0 {
			down++
		}
		if moved.compare(h[down]) <= 0 {
			break
		}
		h[at], at = h[down], down
	}
	h[at] = moved
	return first
}

func newWorld(seed uint64, names ...string) *world {
	w := &world{
		now: time.Hour, random: rand.New(rand.NewPCG(seed, 0)), nodes: map[string]*station{}, names: names,
		settings: plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3},
		latency:  func() time.Duration { return time.Millisecond },
		lost:     func(string, string) bool { return false },
		cut:      map[[2]string]bool{},
		blocked:  map[[2]string]bool{},
		arrival:  map[[2]string]time.Duration{},
		onTurn:   func() {},
		provers:  map[string]*plan.Prover{},
	}
	for i, name := range names {
		w.nodes[name] = &station{name: name, unable: map[netip.Addr]bool{}, began: map[netip.Addr]time.Duration{}, told: map[netip.Addr]time.Duration{}, words: map[announced]time.Duration{}}
		w.nodes[name].address = netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)})
		w.nodes[name].guess = w.nodes[name].address
		w.nodes[name].lasting = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(1 + i)})
		w.stations = append(w.stations, w.nodes[name])
	}
	for _, name := range names {
		w.start(name)
	}
	return w
}

const (
	// announcements is how often an address is announced, one every announceInterval.
	announcements    = 5
	announceInterval = 1100 * time.Millisecond
)

// hesitate has nodes decide about one address at a time.
func (w *world) hesitate(pause time.Duration) {
	w.share, w.hesitation = 1, pause
	for _, s := range w.nodes {
		s.core.batchSize = w.share
	}
}

// at does something at a time to come.
func (w *world) at(t time.Duration, do func()) {
	w.order++
	w.events.push(event{max(t, w.now), w.order, do})
}

// run lets time go by until end.
func (w *world) run(end time.Duration) {
	for len(w.events) > 0 && w.events[0].at <= end {
		e := w.events.pop()
		w.now = e.at
		e.do()
	}
	w.now = end
}

// start begins a life of the announcer on a node, which a leader gives the plan that the
// node has.
func (w *world) start(name string) { w.begin(name, false) }

// restart begins a life with the plan that the last one kept.
func (w *world) restart(name string) { w.begin(name, true) }

func (w *world) begin(name string, kept bool) {
	s := w.nodes[name]
	s.kept = kept
	s.core, s.alive, s.paused, s.queue = NewNode(name, w.random.Uint64()|1), true, false, nil
	s.core.batchSize = cmp.Or(w.share, s.core.batchSize)
	s.peers, s.outlet, s.muted, s.failing = map[string]*Destinations{}, Outlet{}, false, false
	w.configure(s)
}

func (w *world) kill(name string) {
	if s := w.nodes[name]; s.alive {
		s.alive, s.left = false, false
	}
	w.onTurn()
}

// leave ends an announcer as SIGTERM does.
func (w *world) leave(name string) {
	s := w.nodes[name]
	if !s.alive || s.paused {
		return
	}
	s.core.Leave()
	w.turn(s)
	w.kill(name)
	s.left = true
}

func (w *world) pause(name string, how time.Duration) {
	s := w.nodes[name]
	if !s.alive || s.paused {
		return
	}
	core := s.core
	s.paused = true
	w.onTurn()
	w.at(w.now+how, func() {
		if s.core == core && s.paused {
			s.paused = false
			w.configure(s) // With the plan that came meanwhile.
		}
	})
}

// configure hands the node's plan to its core.
func (w *world) configure(s *station) {
	if !s.alive || s.paused {
		return
	}
	settings := w.settings
	for _, name := range w.names {
		if name != s.name {
			settings.Peers = append(settings.Peers, plan.Peer{Node: name})
			if s.peers[name] == nil {
				s.peers[name] = &Destinations{}
			}
			paths := []Path{pathTo(w.nodes[name].guess)}
			if w.moving {
				paths = append(paths, pathTo(w.nodes[name].lasting))
			}
			s.peers[name].Guess(paths)
		}
	}
	settings.ProofKey = proofKey(s.name)
	w.prepare(s)
	s.core.Configure(w.now, settings)
	w.list(s)
	s.core.SetUnhealthy(w.now, s.unhealthy)
	w.turn(s)
}

// list hands the lists of the node's plan to its core.
func (w *world) list(s *station) {
	dropped := maps.Clone(s.core.lists)
	for a := range s.plan.Assignments.All() {
		if slices.Contains(a.Candidates, s.name) {
			delete(dropped, a.Address)
			s.core.Put(w.now, List{
				Address: a.Address, Version: a.Version, Candidates: a.Candidates, Former: a.Former, Proofs: w.proven(a, s.name).Proofs, Able: !s.unable[a.Address],
				Ready: !s.unready && !s.unhealthy, Mute: s.failing, Unconfirmed: s.kept,
			})
		}
	}
	for address := range dropped {
		s.core.Drop(address)
	}
}

// listenToItself looks whether what the node sends leaves it.
func (w *world) listenToItself(s *station) {
	heard := s.core.Counts()[Up] > 0
	failing, unheard := s.outlet.Mute(w.now, s.core, func(int) bool { return heard })
	if muted := len(failing)+len(unheard) > 0; muted != s.muted {
		if s.muted = muted; !muted {
			s.core.Listen(w.now)
		}
	}
	if s.failing != (len(failing) > 0) {
		s.failing = !s.failing
		w.list(s)
	}
}

// proofKey is what leaders and the node share.
func proofKey(node string) plan.Key { return plan.Key{1, node[0]} }

// proven is a list as a leader gives it to a node.
func (w *world) proven(a plan.Assignment, node string) plan.Assignment {
	return a.Proven(node, func(checker string) *plan.Prover {
		if w.provers[checker] == nil {
			w.provers[checker] = plan.NewProver(proofKey(checker))
		}
		return w.provers[checker]
	})
}

// deliver brings a plan to a node, unless it has a newer one.
func (w *world) deliver(name string, nodePlan plan.NodePlan) {
	s := w.nodes[name]
	if nodePlan.Version.Compare(s.plan.Version) > 0 {
		s.plan, s.kept = nodePlan, false
		w.configure(s)
	}
}

// prepare is what the owner of a core does first.
func (w *world) prepare(s *station) {
	if s.core.Overslept(w.now) {
		// What is queued is not dropped here: in the kernel some may be left.
		s.core.Restart(w.now, w.random.Uint64()|1)
	}
}

// turn is what the owner of a core does.
func (w *world) turn(s *station) {
	if !s.alive || s.paused {
		return
	}
	w.prepare(s)
	w.listenToItself(s)
	s.core.CountFrames(s.frames)
	for _, p := range s.queue {
		switch err := s.core.Receive(w.now, p.Packet); err {
		case nil:
			s.peers[p.From].Heard(pathTo(p.source))
		case ErrUnproven:
			s.peers[p.From].Unproven(pathTo(p.source))
		}
	}
	s.queue = s.queue[:0]
	before := s.core.Claims()
	for _, address := range s.core.Reconcile(w.now) {
		if !before.Has(address) {
			s.began[address] = w.now
			w.announce(s, address)
		}
	}
	for _, address := range append(s.core.TakeReannounce(), s.core.TakeReannounceNow()...) {
		w.announce(s, address)
	}
	if err := incomplete(w.now, s.core); err != nil && w.wrong == nil {
		w.wrong = fmt.Errorf("%s at %s: %w", s.name, w.now-time.Hour, err)
	}
	for _, address := range s.core.TakeProbes() {
		w.probe(s, address)
	}
	rounds := s.core.Rounds()
	out := s.core.Flush(w.now)
	for _, out := range out {
		w.send(s.name, out)
	}
	s.outlet.Flushed(w.now, s.core, rounds, len(out) == 0 || !s.mute)
	w.schedule(s)
	w.onTurn()
}

func (w *world) schedule(s *station) {
	wake := s.core.Wake()
	if wake != 0 && wake < w.now {
		wake = w.now + w.hesitation // There is more to decide about.
	}
	if wake == 0 || wake == s.wake {
		return
	}
	s.wake = wake
	w.at(wake, func() {
		if s.wake == wake {
			s.wake = 0
			w.turn(s)
		}
	})
}

// send sends a packet to where its receiver is, as far as the sender knows.
func (w *world) send(from string, out Outgoing) {
	s, to := w.nodes[from], w.nodes[out.To]
	if s.mumbles {
		out.Packet.Digest, out.Packet.Part = out.Packet.Digest+1, nil
	}
	if s.mute {
		s.outlet.Sent(w.now, 1, "a firewall is in the way")
		return
	}
	s.outlet.Sent(w.now, 1, "")
	for _, path := range s.peers[out.To].Next(out.Late) {
		switch path.To.Addr() {
		case to.address:
			w.carry(s, to, out.Packet, s.address)
		case to.lasting:
			w.carry(s, to, out.Packet, s.lasting)
		}
	}
}

func (w *world) carry(from, to *station, p Packet, source netip.Addr) {
	pair := [2]string{from.name, to.name}
	if w.cut[pair] || w.blocked[pair] || w.lost(from.name, to.name) {
		return
	}
	arrival := max(w.arrival[pair], w.now+w.latency())
	w.arrival[pair] = arrival
	w.at(arrival, func() {
		if to.alive && len(to.queue) < 200 {
			to.frames++
			to.queue = append(to.queue, arrived{p, source})
			w.turn(to)
		}
	})
}

// pathTo is the way to a machine on the LAN.
func pathTo(a netip.Addr) Path { return Path{"eth0", netip.AddrPortFrom(a, Port)} }

// announce tells the segment of address: at once, and some times more.
func (w *world) announce(s *station, address netip.Addr) {
	core, began := s.core, w.now
	s.told[address] = began
	for i := range announcements {
		w.at(w.now+time.Duration(i)*announceInterval, func() {
			if s.core == core && s.told[address] == began && w.answers(s.name, address) {
				w.hearPeers(s.name, address)
			}
		})
	}
}

// hearPeers brings an announcement to those who answer for the address, too.
func (w *world) hearPeers(from string, address netip.Addr) {
	for _, s := range w.stations {
		if s.name == from || w.cut[[2]string{from, s.name}] {
			continue
		}
		core := s.core
		w.at(w.now+time.Millisecond, func() { w.peerAnnounced(s, core, from, address) })
	}
}

// peerAnnounced hands over an announcement, to one who sleeps when it is awake.
func (w *world) peerAnnounced(s *station, core *Node, from string, address netip.Addr) {
	switch {
	case s.core == core && s.paused:
		w.at(w.now+10*time.Millisecond, func() { w.peerAnnounced(s, core, from, address) })
	case w.answers(s.name, address):
		s.words[announced{from, address}] = w.now
		s.core.PeerAnnounced(w.now, address, from)
		w.turn(s)
	}
}

// probe asks the segment for address three times.
func (w *world) probe(s *station, address netip.Addr) {
	core, answered := s.core, map[netip.Addr]bool{}
	for i := range 3 {
		w.at(w.now+time.Duration(i)*40*time.Millisecond, func() {
			for _, name := range w.owners(address) {
				if name != s.name && w.joined(name, s.name) {
					answered[address] = true
				}
			}
		})
	}
	w.at(w.now+120*time.Millisecond, func() { w.probed(s, core, address, answered) })
}

// probed hands over the result, to one who sleeps when it is awake.
func (w *world) probed(s *station, core *Node, address netip.Addr, answered map[netip.Addr]bool) {
	switch {
	case s.core != core || !s.alive:
	case s.paused:
		w.at(w.now+10*time.Millisecond, func() { w.probed(s, core, address, answered) })
	default:
		w.prepare(s)
		core.SetProbeResults(w.now, []netip.Addr{address}, answered)
		w.turn(s)
	}
}

// joined says whether frames pass both ways between two nodes.
func (w *world) joined(a, b string) bool { return !w.cut[[2]string{a, b}] && !w.cut[[2]string{b, a}] }

// answers says whether a node answers for address now.
func (w *world) answers(name string, address netip.Addr) bool {
	s := w.nodes[name]
	return w.speaks(s) && !s.core.Claim(address).IsZero()
}

// speaks says whether a node answers for what it claims.
func (w *world) speaks(s *station) bool {
	if !s.alive || s.paused {
		return false
	}
	until := s.outlet.Deadline(s.core)
	return until == 0 || w.now < until
}

func (w *world) owners(address netip.Addr) []string {
	var out []string
	for _, name := range w.names {
		if w.answers(name, address) {
			out = append(out, name)
		}
	}
	return out
}

// addresses returns all addresses of all plans, sorted.
func (w *world) addresses() []netip.Addr {
	all := map[netip.Addr]bool{}
	for _, s := range w.nodes {
		for a := range s.plan.Assignments.All() {
			all[a.Address] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), netip.Addr.Compare)
}

// String says who answers for what.
func (w *world) String() string {
	var b strings.Builder
	for _, address := range w.addresses() {
		var who []string
		for _, name := range w.owners(address) {
			who = append(who, fmt.Sprintf("%s (list %s)", name, w.nodes[name].core.Claim(address)))
		}
		if who == nil {
			who = []string{"nobody"}
		}
		fmt.Fprintf(&b, "%s → %s\n", address, strings.Join(who, ", "))
	}
	return b.String()
}
