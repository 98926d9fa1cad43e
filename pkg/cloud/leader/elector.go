package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// ErrSuperseded is returned by Run when another replica led, or may have led, since this
// one did. What this process remembers may be wrong by then: it has to end and come back
// as a standby.
var ErrSuperseded = errors.New("leadership was taken over")

// Options are what an Elector needs. All fields but MayStand and Clock are mandatory.
type Options struct {
	// Leases reaches the Lease. It must be a client of its own (so that it never waits
	// for the controllers' rate limit) that is not behind the Fence.
	Leases coordinationclient.LeasesGetter
	// Namespace and Name are the Lease's.
	Namespace, Name string
	// Identity names this process; no other process may ever have the same one.
	Identity string
	// Elect is false where this is the only replica: it then leads without asking.
	Elect bool
	// LeaseDuration is for how long others believe in a Lease that is not renewed.
	// RenewDeadline is for how long its holder does; it must be shorter. RetryPeriod is
	// the time between two renewals or attempts. They are checked without Elect too, where
	// half of RenewDeadline bounds a request and RetryPeriod is the time between attempts.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration
	// MayStand is asked before this replica takes a Lease that is not its own; an error
	// says what keeps it from leading. Nil means always.
	MayStand func() error
	// Clock is the clock of the Fence; nil means BootClock.
	Clock  func() time.Duration
	Logger *slog.Logger
}

// Elector stands for election for as long as its Run runs.
type Elector struct {
	options Options
	fence   *Fence
	lock    *lock
	log     *slog.Logger

	leading chan struct{}   // closed when this process first leads
	first   sync.Once       // guards leading
	changed chan struct{}   // of one, for the owner
	renewed chan struct{}   // of one, for watchFence
	retry   chan struct{}   // of one, for stand
	lost    context.Context // done, with the cause, once superseded
	lose    context.CancelCauseFunc
}

// New returns an Elector that does nothing until Run. Its error is about the options.
func New(options Options) (*Elector, error) {
	if options.Clock == nil {
		options.Clock = BootClock
	}
	if options.MayStand == nil {
		options.MayStand = func() error { return nil }
	}
	e := &Elector{
		options: options,
		fence:   newFence(options.Clock, options.RenewDeadline),
		log:     options.Logger,
		leading: make(chan struct{}),
		changed: make(chan struct{}, 1),
		renewed: make(chan struct{}, 1),
		retry:   make(chan struct{}, 1),
	}
	e.lost, e.lose = context.WithCancelCause(context.Background())
	e.lock = &lock{
		leases:     options.Leases.Leases(options.Namespace),
		namespace:  options.Namespace,
		name:       options.Name,
		identity:   options.Identity,
		timeout:    max(options.RenewDeadline/2, time.Millisecond),
		fence:      e.fence,
		log:        options.Logger,
		patience:   options.LeaseDuration,
		missing:    -1,
		mayStand:   options.MayStand,
		renewEvery: options.RetryPeriod * 3 / 4,
		changed:    e.leaseWritten,
		superseded: e.lose,
		turn:       make(chan struct{}, 1),
	}
	if !options.Elect {
		e.lock.patience = 0 // no other replica may lead
	}
	if _, err := e.newCampaign(options.RetryPeriod); err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	return e, nil
}

// newCampaign returns a client-go elector for one campaign, which tries so often.
func (e *Elector) newCampaign(every time.Duration) (*leaderelection.LeaderElector, error) {
	return leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          e.lock,
		Name:          e.options.Name,
		LeaseDuration: e.options.LeaseDuration,
		RenewDeadline: e.options.RenewDeadline,
		RetryPeriod:   every,
		// What matters is done by the lock, in order; these are called at some time.
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) {},
			OnStoppedLeading: func() {},
			OnNewLeader:      e.reportLeader,
		},
	})
}

func (e *Elector) reportLeader(identity string) {
	if identity != "" && identity != e.options.Identity {
		e.log.Info("another replica leads", "leader", identity, "lease", e.lock.Describe())
	}
}

// Leading is closed when this replica first leads; Term is known then.
func (e *Elector) Leading() <-chan struct{} { return e.leading }

// Fence returns what to ask before anything leaves this replica as the leader's word.
func (e *Elector) Fence() *Fence { return e.fence }

// Term returns the term of this replica's leadership, 0 before it first led. It only grows.
func (e *Elector) Term() uint64 { return e.lock.term.Load() }

// Changed is a channel of one that receives after the fence opened or closed or the term
// changed. It has one reader and is never closed.
func (e *Elector) Changed() <-chan struct{} { return e.changed }

// Raise makes the term greater than heard, a term that a node obeyed under another
// leader. A standby remembers it for the time when it leads. On an error (the API server
// did not answer, say) the next renewal of the Lease raises the term; ErrImplausible
// means that heard is ignored.
func (e *Elector) Raise(ctx context.Context, heard uint64) error {
	term := e.lock.term.Load()
	if heard > maxTerm || heard > max(term, e.lock.heard.Load())+maxLeap {
		return fmt.Errorf("term %d, ours is %d: %w", heard, term, ErrImplausible)
	}
	for {
		known := e.lock.heard.Load()
		if heard <= known || e.lock.heard.CompareAndSwap(known, heard) {
			break
		}
	}
	if err := e.lock.raiseTerm(ctx); err != nil {
		return fmt.Errorf("raise the term above %d: %w", heard, err)
	}
	return nil
}

// Run stands for election and holds the Lease until ctx is done; it then waits for
// writes in flight, gives the Lease back and returns nil. It returns an ErrSuperseded,
// with the fence closed, once another replica led after this one. A lost API server
// closes the fence but does not end Run. Run must be called once.
func (e *Elector) Run(ctx context.Context) error {
	var watch sync.WaitGroup
	watching, stop := context.WithCancel(ctx)
	watch.Go(func() { e.watchFence(watching) })
	defer watch.Wait()
	defer stop()

	var err error
	if e.options.Elect {
		err = e.campaign(ctx)
	} else {
		err = e.leadWithoutElection(ctx)
	}
	e.fence.closeFence()
	if err != nil {
		return err
	}
	e.resignLease(context.WithoutCancel(ctx))
	return nil
}

// campaign campaigns until ctx is done or this replica is superseded.
func (e *Elector) campaign(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.lost, cancel)()
	// client-go logs every failed attempt; the lock logs what matters.
	quiet := klog.NewContext(ctx, logr.Discard())

	e.log.Info("standing for election", "lease", e.lock.Describe(), "identity", e.options.Identity)
	for ctx.Err() == nil {
		// Twice as often as the Lease is written: reads are cheap, and what a standby notices
		// late is time without a leader. The lock leaves out every other renewal.
		campaign, err := e.newCampaign(e.options.RetryPeriod / 2)
		if err != nil {
			return err
		}
		e.runCampaign(quiet, campaign)
		if ctx.Err() == nil && e.fence.startLeading() {
			e.fence.closeFence()
			e.notifyOwner()
			e.log.Warn("the Lease could not be renewed in time; nothing is changed until it is ours again",
				"lease", e.lock.Describe(), "renewDeadline", e.options.RenewDeadline)
		}
	}
	return context.Cause(e.lost)
}

// runCampaign campaigns, and renews once it leads, until ctx is done, the Lease is lost, or Retry
// is called while it is.
func (e *Elector) runCampaign(ctx context.Context, campaign *leaderelection.LeaderElector) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		campaign.Run(ctx)
	}()
	for {
		select {
		case <-done:
			return
		case <-e.retry:
			if e.Term() > 0 && e.fence.Err() != nil {
				cancel()
				<-done
				return
			}
		}
	}
}

// Retry makes a replica that led, and could not renew its Lease in time, try again now. It
// is called when the API server is known to be back. Other replicas leave it the first try.
func (e *Elector) Retry() {
	select {
	case e.retry <- struct{}{}:
	default:
	}
}

// leadWithoutElection takes the Lease without asking and leads until ctx is done.
func (e *Elector) leadWithoutElection(ctx context.Context) error {
	record := resourcelock.LeaderElectionRecord{
		HolderIdentity:       e.options.Identity,
		LeaseDurationSeconds: int(e.options.LeaseDuration / time.Second),
	}
	for {
		record.AcquireTime = metav1.Now()
		record.RenewTime = record.AcquireTime
		err := e.lock.acquireLease(ctx, record)
		if err == nil {
			break
		}
		e.log.Warn("the Lease could not be taken; trying on", "lease", e.lock.Describe(), "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(e.options.RetryPeriod):
		}
	}
	e.fence.openFence()
	e.notifyOwner()
	select {
	case <-ctx.Done():
		return nil
	case <-e.lost.Done():
		return context.Cause(e.lost)
	}
}

// resignLease gives the Lease back once no write is under way in its name.
func (e *Elector) resignLease(ctx context.Context) {
	if e.Term() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, e.options.RenewDeadline)
	defer cancel()
	if err := e.fence.drainWrites(ctx); err != nil {
		e.log.Warn("the Lease is left to expire: writes are still unanswered", "lease", e.lock.Describe())
		return
	}
	if err := e.lock.releaseLease(ctx); err != nil {
		e.log.Warn("the Lease could not be given back and is left to expire", "lease", e.lock.Describe(), "err", err)
		return
	}
	e.log.Info("gave the Lease back", "lease", e.lock.Describe())
}

// leaseWritten is called by the lock after each successful write.
func (e *Elector) leaseWritten() {
	if e.fence.Err() == nil || !e.options.Elect {
		e.first.Do(func() {
			e.log.Info("leading", "lease", e.lock.Describe(), "identity", e.options.Identity, "term", e.Term())
			close(e.leading)
		})
	}
	e.notifyOwner()
}

func (e *Elector) notifyOwner() {
	select {
	case e.renewed <- struct{}{}:
	default:
	}
}

// watchFence tells the owner when the fence opens or closes or the term changes.
func (e *Elector) watchFence(ctx context.Context) {
	var open bool
	var term uint64
	for {
		closing := e.fenceCloses()
		select {
		case <-ctx.Done():
			return
		case <-e.renewed:
		case <-closing:
		}
		cause, now := e.fence.Err(), e.Term()
		if open == (cause == nil) && term == now {
			continue
		}
		if open && cause != nil {
			e.log.Warn("the leader fence closed", "cause", cause)
		}
		open, term = cause == nil, now
		select {
		case e.changed <- struct{}{}:
		default:
		}
	}
}

// fenceCloses returns a channel that receives when the fence will have closed if nothing
// renews it, and nil if it is closed or closes only on demand.
func (e *Elector) fenceCloses() <-chan time.Time {
	left, bounded := e.fence.remaining()
	if !bounded || left == 0 {
		return nil
	}
	return time.After(left)
}
