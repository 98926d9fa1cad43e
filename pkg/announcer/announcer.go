package announcer

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/failover"
	"baremetal.cloud/ccm/pkg/announcer/internal/addressqueue"
	"baremetal.cloud/ccm/pkg/announcer/internal/lograte"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/netstate"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/announcer/proxyhealth"
)

// forgetAfter is how long a replica with a stream that is down stays in the Status: replicas get
// other addresses with every update.
const forgetAfter = 10 * time.Minute

// Responder answers for addresses of one family; *responder.Responder is one.
type Responder interface {
	// Apply makes ports the whole of what is answered and says by interface index where
	// that failed.
	Apply(ports []*responder.Port) map[int]error
	// Announce tells everybody unasked where addresses are, in the form that most heed, and
	// AnnounceOtherwise in others. Neither waits; unsent are those for which there was no room.
	Announce(addresses []netip.Addr) (unsent []netip.Addr, err error)
	AnnounceOtherwise(addresses []netip.Addr) error
	// Counts returns what was done so far; any goroutine may call it.
	Counts() responder.Counts
	// Close stops answering and frees everything.
	Close()
}

var _ Responder = (*responder.Responder)(nil)

// Speaker speaks BGP; *bgp.Speaker is one.
type Speaker interface {
	// Set makes d all that routers hear. It does not wait for that.
	Set(d bgp.Desired)
}

var _ Speaker = (*bgp.Speaker)(nil)

// Options are what an Announcer needs.
type Options struct {
	// Node is the name of the Node that this process runs on.
	Node string
	// NodeIPs are the Node's addresses, for BGP; without any they are chosen from the interfaces.
	NodeIPs []netip.Addr
	// Logger takes what an operator should know; nil discards it.
	Logger *slog.Logger
	// IPv4 and IPv6 make the responder of each family. Their arguments are what to call
	// when a socket failed, and what to ask before anything is sent.
	IPv4, IPv6 func(socketFailed func(), allowed func() bool) Responder
	// Speaker says to routers what it is set to; nil has the node speak to none.
	Speaker Speaker
	// ListenIPv4 and ListenIPv6, if not nil, make the Listener of each family. Their arguments are
	// what to call when a socket failed, and with each frame that claims an address.
	ListenIPv4, ListenIPv6 func(socketFailed func(), heard func(*responder.Port, []byte)) Listener
	// Report takes the node's whole state whenever it changed. It must not block.
	Report func(plan.Report)
	// Ask, if not nil, takes what to ask about the node's health, whenever that may have changed;
	// what is learned comes by OnHealth. It must not block. Without it the node is taken for
	// well.
	Ask func(proxyhealth.Targets)
	// Loop, if not nil, is what Run waits by. Packets of peers are read by Run then, on a thread that
	// is not kept waiting by others.
	Loop Loop
	// PersistedPlan is the plan that an earlier life of the announcer kept, or the zero Set. It is
	// carried out unless a leader sends one within a second, and nothing older is accepted.
	PersistedPlan plan.NodePlan
	// Keeper, if not nil, takes each plan that is accepted.
	Keeper Keeper
}

// Keeper keeps the newest plan for the next life of the announcer; *planfile.Keeper is one.
type Keeper interface {
	// Keep takes the newest plan. It must not block.
	Keep(plan.NodePlan)
	// Counts returns how often a plan was written, and how often that failed; any goroutine may
	// call it.
	Counts() (written, failed uint64)
}

// Announcer carries out plans. OnPlan, OnStream, OnLinks and Status may be called from
// any goroutine and never wait.
type Announcer struct {
	options    Options
	log        *slog.Logger
	waiting    waiting
	mailbox    *mailbox
	core       *core
	responders map[family]Responder
	// listeners are those that there are, and deaf why one of them did not hear, as it was told.
	listeners map[family]Listener
	deaf      map[family]string
	// claimLimit bounds what the owner hears of claims, and logLimit the log lines that others
	// than this node can cause.
	claimLimit *claimLimit
	logLimit   *lograte.Limiter
	transport  peerTransport
	// otherwise are the addresses that were announced in the first form only, withheld is since
	// when some are that wait for others; zero without any.
	otherwise addressqueue.Queue
	withheld  time.Time
	// clock is the time of package failover.
	clock  func() time.Duration
	asking sync.WaitGroup
	// arrived are packets of peers that the owner read itself.
	arrived []failover.Arrival
	// asks ends with the announcer, by endAsks.
	asks    context.Context
	endAsks context.CancelFunc
	status  atomic.Pointer[Status]
	// stepStarted is since when the owner is at something, as time since began; 0 while it waits.
	stepStarted atomic.Int64
	began       time.Time
	refused     map[string]uint64
	// told is the last refusal that was logged, by replica.
	told map[string]string

	mu      sync.Mutex
	streams map[string]Stream
}

// New returns an Announcer that does nothing until Run.
func New(options Options) *Announcer {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	waiting := newWaiting(options.Loop)
	a := &Announcer{
		options: options, began: time.Now(), log: options.Logger, waiting: waiting, mailbox: newMailbox(waiting.wakeOwner), core: newCore(options.Node, newIncarnation()),
		refused: map[string]uint64{}, told: map[string]string{}, streams: map[string]Stream{},
		listeners: map[family]Listener{}, deaf: map[family]string{}, clock: failover.Now,
		claimLimit: newClaimLimit(), logLimit: lograte.NewDefault(),
	}
	a.asks, a.endAsks = context.WithCancel(context.Background())
	failed := func() { a.mailbox.addEvent(func(n *events) { n.socketFailed = true }) }
	a.responders = map[family]Responder{
		ipv4: options.IPv4(failed, a.transport.mayAnswer), ipv6: options.IPv6(failed, a.transport.mayAnswer),
	}
	a.addListener(ipv4, options.ListenIPv4, failed)
	a.addListener(ipv6, options.ListenIPv6, failed)
	network := failover.NewNetwork(a.receivePacket, func() { a.mailbox.addEvent(func(n *events) { n.peersFailed = true }) })
	if options.Loop != nil {
		network.PollBy(options.Loop, func(p failover.Arrival) {
			a.arrived = append(a.arrived, p) // At most as many as are read at once.
		})
	}
	a.transport.network = network
	a.core.health.asks, a.core.nodeIPs = options.Ask != nil, options.NodeIPs
	a.status.Store(&Status{})
	return a
}

// receivePacket takes a packet that another goroutine read.
func (a *Announcer) receivePacket(p failover.Arrival) {
	if !a.mailbox.addPacket(p) {
		a.transport.network.Drop(failover.ErrOverflow)
	}
}

// OnPlan takes a plan from a replica of the cluster side.
func (a *Announcer) OnPlan(replica string, set plan.NodePlan) {
	a.mailbox.addEvent(func(n *events) {
		if n.plans == nil {
			n.plans = map[string]plan.NodePlan{}
		}
		n.plans[replica] = set
	})
}

// OnStream takes that the control stream to a replica came up or went down. It changes
// nothing but the Status: a lost stream moves no address.
func (a *Announcer) OnStream(replica string, up bool) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.streams, func(_ string, s Stream) bool { return !s.Up && now.Sub(s.Since) > forgetAfter })
	a.streams[replica] = Stream{Replica: replica, Up: up, Since: now}
}

// OnLinks takes the state of the node's interfaces.
func (a *Announcer) OnLinks(links netstate.Snapshot) {
	a.mailbox.addEvent(func(n *events) { n.links = &links })
}

// OnNotifyPeers takes that the addresses which are answered on an interface, by its index, must
// be announced again: frames reach it by another port of the network.
func (a *Announcer) OnNotifyPeers(index int) {
	a.mailbox.addEvent(func(n *events) {
		if n.again == nil {
			n.again = map[int]bool{}
		}
		if len(n.again) < plan.MaxInterfaces {
			n.again[index] = true
		}
	})
}

// OnHealth takes what was learned of the node's health.
func (a *Announcer) OnHealth(r proxyhealth.Result) {
	a.mailbox.addEvent(func(n *events) { n.health = &r })
}

// OnBGP takes how the sessions to routers fare.
func (a *Announcer) OnBGP(state bgp.State) {
	a.mailbox.addEvent(func(n *events) { n.bgp = &state })
}

// Run carries out plans, in the calling thread's network namespace, until ctx is done.
// Then it stops answering, tells its peers, reports that it claims nothing and has no
// interface to carry anything, and returns nil.
func (a *Announcer) Run(ctx context.Context) error {
	defer a.closeAll()
	a.waiting.beginWaiting()
	defer context.AfterFunc(ctx, a.waiting.wakeOwner)()
	a.core.restorePlan(failover.Now(), a.options.PersistedPlan)
	for pause := time.Duration(0); ; pause = a.pauseUntilDue() {
		a.waiting.waitFor(pause)
		if ctx.Err() != nil {
			a.leaveSegments(time.Now())
			return nil
		}
		a.stepStarted.Store(int64(time.Since(a.began)))
		a.step(time.Now(), failover.Now(), a.takeEvents())
		a.stepStarted.Store(0)
	}
}

// pauseUntilDue returns how long nothing is due; less than nothing if nothing ever is.
func (a *Announcer) pauseUntilDue() time.Duration {
	if a.core.hasPending() {
		return 0
	}
	pause := forever
	sooner := func(left time.Duration) {
		if left = max(left, 0); pause < 0 || left < pause {
			pause = left
		}
	}
	if next := earlierTime(a.core.wakeAt(), a.logLimit.Next()); !next.IsZero() {
		sooner(time.Until(next))
	}
	if a.otherwise.Len() > 0 {
		sooner(time.Until(a.core.frames.freeAt(1, a.core.reservedFrames())))
	}
	if a.core.takeoverProbes.Len() > 0 {
		sooner(time.Until(a.core.takeoverProbes.freeAt()))
	}
	for _, next := range []time.Duration{a.core.failover.Wake(), a.transport.retryAt, a.core.persisted.until, a.core.health.wakeAt(), a.core.routeGate.nextDue(), a.core.conflicts.wakeAt()} {
		if next != 0 {
			sooner(next - failover.Now())
		}
	}
	if next := a.core.conflicts.nextProbe(); next != 0 {
		sooner(max(next-failover.Now(), time.Until(a.core.frames.freeAt(probeFrames, 0))))
	}
	return pause
}

// leaveSegments ends everything in the order in which others can follow at once: first requests
// are no longer answered, then peers hear it, then the cluster side.
func (a *Announcer) leaveSegments(now time.Time) {
	a.core.dropDesired()
	boot := failover.Now()
	a.core.reconcileClaims(boot)
	addresses := a.core.nextBatch()
	a.core.setDesired(addresses)
	failed := a.applyPorts()
	for range farewells {
		a.transport.sendHeartbeats(boot, a.core.failover)
	}
	a.core.commitApplied(now, addresses, failed)
	a.publishResult(a.core.nextReport())
	a.writeLog(a.core.logAggregator.flushLines(now, a.core.appliedVersion.String()))
}

// publishStatus makes the present state the Status.
func (a *Announcer) publishStatus() {
	a.status.Store(&Status{
		Started:  a.core.links != nil,
		Plan:     a.core.appliedVersion,
		Claims:   a.core.claims,
		Problems: a.core.listed,
		Backup:   a.core.backupCount(),
		Refused:  a.refused,
		Peers:    a.core.failover.Counts(),
		BGP:      a.core.bgp,

		Found: len(a.core.conflicts.listed), Conflicts: a.core.conflicts.counts,

		ClaimsStarted: maps.Clone(a.core.started),
		ClaimsEnded:   maps.Clone(a.core.ended),
		Unhealthy:     a.core.health.unhealthy,
		Working:       a.core.health.result.Works,
		Persisted:     a.core.persisted.unconfirmed && !a.core.persisted.isWaiting(),
	})
}

// Status returns the present state.
func (a *Announcer) Status() Status {
	s := *a.status.Load()
	a.mu.Lock()
	s.Streams = sortStreams(a.streams)
	a.mu.Unlock()
	if turned := a.stepStarted.Load(); turned != 0 {
		s.Busy = time.Since(a.began) - time.Duration(turned)
	}
	s.Dropped = a.transport.network.Dropped()
	s.Sent, s.Unsent = a.transport.sent.Load(), a.transport.unsent.Load()
	if a.options.Keeper != nil {
		s.Written, s.Unwritten = a.options.Keeper.Counts()
	}
	s.Responders = make(map[string]responder.Counts, len(a.responders))
	for f, r := range a.responders {
		s.Responders[string(f)] = r.Counts()
	}
	return s
}

func (a *Announcer) closeAll() {
	a.endAsks()
	a.asking.Wait()
	a.transport.network.Close()
	for _, r := range a.responders {
		r.Close()
	}
	for _, l := range a.listeners {
		l.Close()
	}
	a.waiting.endWaiting()
}
