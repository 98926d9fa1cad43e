package announcer

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/link"
	"baremetal.cloud/ccm/pkg/announcer/responder"
)

// forgetAfter is how long a replica whose stream is down stays in the Status: replicas
// get other addresses with every update.
const forgetAfter = 10 * time.Minute

// Responder answers for addresses of one family; *responder.Responder is one.
type Responder interface {
	// Apply makes ports the whole of what is answered and says by interface index where
	// that failed.
	Apply(ports []*responder.Port) map[int]error
	// Announce tells everybody unasked where addresses are.
	Announce(addresses []netip.Addr) error
	// Counts returns what was done so far; it may be called by anybody.
	Counts() responder.Counts
	// Close stops answering and frees everything.
	Close()
}

var _ Responder = (*responder.Responder)(nil)

// Options are what an Announcer needs.
type Options struct {
	// Node is the name of the Node that this process runs on.
	Node string
	// Logger takes what an operator should know; nil discards it.
	Logger *slog.Logger
	// IPv4 and IPv6 make the responder of each family. Their argument is what to call
	// when a socket failed.
	IPv4, IPv6 func(socketFailed func()) Responder
	// Report takes the node's whole state whenever it changed. It must not block.
	Report func(announcement.Report)
}

// Announcer carries out plans. OnPlan, OnStream, OnLinks and Status may be called from
// any goroutine and never wait.
type Announcer struct {
	options    Options
	log        *slog.Logger
	inbox      *inbox
	core       *core
	responders map[family]Responder
	status     atomic.Pointer[Status]
	refused    map[string]uint64
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
	a := &Announcer{
		options: options, log: options.Logger, inbox: newInbox(), core: newCore(options.Node),
		refused: map[string]uint64{}, told: map[string]string{}, streams: map[string]Stream{},
	}
	failed := func() { a.inbox.put(func(n *news) { n.socketFailed = true }) }
	a.responders = map[family]Responder{ipv4: options.IPv4(failed), ipv6: options.IPv6(failed)}
	a.status.Store(&Status{})
	return a
}

// OnPlan takes a plan from a replica of the cluster side.
func (a *Announcer) OnPlan(replica string, set announcement.Set) {
	a.inbox.put(func(n *news) {
		if n.plans == nil {
			n.plans = map[string]announcement.Set{}
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
func (a *Announcer) OnLinks(links link.Snapshot) {
	a.inbox.put(func(n *news) { n.links = &links })
}

// Run carries out plans, in the calling thread's network namespace, until ctx is done.
// Then it stops answering, reports that it claims nothing and has no interface to carry
// anything, and returns nil.
func (a *Announcer) Run(ctx context.Context) error {
	defer a.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			a.core.leave()
			a.carryOut(time.Now())
			a.write(a.core.journal.flush(time.Now(), a.core.plan.String()))
			return nil
		case <-a.inbox.wake:
		case <-timer.C:
		}
		timer.Stop()
		a.turn(time.Now(), a.inbox.take())
		if next := a.core.wake(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// turn takes in what happened, and does what is due.
func (a *Announcer) turn(now time.Time, n news) {
	changed := a.accept(n.plans)
	if n.links != nil {
		a.core.see(*n.links)
		changed = true
	}
	if n.socketFailed {
		a.core.socketFailed(now)
	}
	if changed || a.core.retryDue(now) {
		a.carryOut(now)
	}
	a.announce(now)
	a.write(a.core.journal.take(now, a.core.plan.String()))
}

// accept offers plans to the core and reports whether one was taken.
func (a *Announcer) accept(plans map[string]announcement.Set) bool {
	taken := false
	for replica, set := range plans {
		err := a.core.offer(set)
		if err == nil {
			taken = true
			delete(a.told, replica)
			continue
		}
		a.refuse(replica, err)
	}
	return taken
}

// carryOut makes the sockets answer what the core wants, and reports what was reached.
func (a *Announcer) carryOut(now time.Time) {
	wanted := a.core.wanted()
	failed := failures{}
	for f, r := range a.responders {
		failed[f] = r.Apply(ports(wanted.answers, f))
	}
	report := a.core.applied(now, wanted, failed)
	a.publish()
	if report != nil {
		a.options.Report(*report)
	}
}

// announce sends the announcements that are due.
func (a *Announcer) announce(now time.Time) {
	due := map[family][]netip.Addr{}
	for _, address := range a.core.schedule.take(now) {
		due[familyOf(address)] = append(due[familyOf(address)], address)
	}
	for f, addresses := range due {
		if err := a.responders[f].Announce(addresses); err != nil {
			a.log.Warn("announcing addresses failed; it is repeated", "addresses", len(addresses), "error", err)
		}
	}
}

func (a *Announcer) write(lines []line) {
	for _, l := range lines {
		a.log.Log(context.Background(), l.level, l.text)
	}
}

// publish makes the present state the Status.
func (a *Announcer) publish() {
	a.status.Store(&Status{
		Started:  a.core.links != nil,
		Plan:     a.core.plan,
		Claims:   a.core.claimStatus(),
		Problems: a.core.decision.problems,
		Standby:  a.core.decision.standby,
		Refused:  a.refused,
	})
}

// Status returns the present state.
func (a *Announcer) Status() Status {
	s := *a.status.Load()
	a.mu.Lock()
	s.Streams = sortStreams(a.streams)
	a.mu.Unlock()
	s.Responders = make(map[string]responder.Counts, len(a.responders))
	for f, r := range a.responders {
		s.Responders[string(f)] = r.Counts()
	}
	return s
}

func (a *Announcer) close() {
	for _, r := range a.responders {
		r.Close()
	}
}
