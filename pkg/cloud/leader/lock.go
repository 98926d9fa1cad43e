package leader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/ptr"
)

var _ resourcelock.Interface = (*lock)(nil)

// lock is the Lease as client-go's elector sees it. Beyond client-go's own LeaseLock it
// keeps the term in the same write that takes the Lease, opens the fence with each
// renewal, and notices at once when another replica held the Lease meanwhile.
type lock struct {
	leases    coordinationclient.LeaseInterface
	namespace string
	name      string
	identity  string
	timeout   time.Duration // of one request
	// renewEvery is how old a renewal is at least when it is repeated.
	renewEvery time.Duration
	patience   time.Duration // after making another's Lease that was gone, before leading by it
	fence      *Fence
	log        *slog.Logger
	// mayStand is asked before a Lease that is not ours is taken.
	mayStand func() error
	// changed is called after every successful write.
	changed func()
	// superseded is called once it is known that another replica held the Lease.
	superseded func(error)

	term  atomic.Uint64 // 0 until this process led
	heard atomic.Uint64 // the highest term that nodes know

	// turn is held by the caller that owns the fields below and may write the Lease. It is a
	// channel so that waiting for it ends with a context.
	turn  chan struct{}
	lease *coordinationv1.Lease // as last read or written; nil before
	held  *tenure               // nil until this process led
	// missing is when, by the fence's clock, the Lease was first found to be gone by
	// the reads since it was last seen; negative while it is there.
	missing time.Duration
	// failing is whether the last request of the elector failed.
	failing bool
	// waiting is whether it was logged that the Lease is gone, refusing whether that this
	// replica does not stand.
	waiting, refusing bool
}

// errMissing is why a Lease that is gone is not made again at once.
var errMissing = errors.New("the Lease is gone and whoever held it may still lead")

// errNotStanding is why this replica leaves a Lease that is free to others.
var errNotStanding = errors.New("this replica does not stand for election")

// Identity implements resourcelock.Interface.
func (l *lock) Identity() string { return l.identity }

// Describe implements resourcelock.Interface.
func (l *lock) Describe() string { return l.namespace + "/" + l.name }

// RecordEvent implements resourcelock.Interface. The Lease itself shows which replica leads.
func (l *lock) RecordEvent(string) {}

// beginTurn takes the turn and bounds the request that follows.
func (l *lock) beginTurn(ctx context.Context) (context.Context, func(), error) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	return ctx, func() { cancel(); <-l.turn }, nil
}

// Get implements resourcelock.Interface. Once this process led, it fails with
// ErrSuperseded if another replica has held the Lease since.
func (l *lock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	ctx, end, err := l.beginTurn(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	if err := l.noteLease(l.readLease(ctx)); err != nil {
		return nil, nil, err
	}
	// The elector takes the raw bytes for news of the holder only. A record counts time
	// in seconds, the Lease in microseconds: give the latter, so that no renewal is missed.
	raw, err := json.Marshal(l.lease.Spec)
	if err != nil {
		return nil, nil, fmt.Errorf("encode Lease %s: %w", l.Describe(), err)
	}
	return resourcelock.LeaseSpecToLeaderElectionRecord(&l.lease.Spec), raw, nil
}

// Create implements resourcelock.Interface.
func (l *lock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	ctx, end, err := l.beginTurn(ctx)
	if err != nil {
		return err
	}
	defer end()
	return l.noteLease(l.createLease(ctx, record))
}

// Update implements resourcelock.Interface. The record must have been derived from what
// the last Get, Create or Update saw; a Lease changed since by others is a conflict.
func (l *lock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	ctx, end, err := l.beginTurn(ctx)
	if err != nil {
		return err
	}
	defer end()
	if l.lease == nil {
		return fmt.Errorf("update Lease %s: it was not read before", l.Describe())
	}
	if l.held != nil && l.heard.Load() < l.term.Load() && l.fence.age() < l.renewEvery {
		return nil
	}
	return l.noteLease(l.updateLease(ctx, record))
}

// noteLease logs when requests begin to fail and when they succeed again, instead of once
// per retry, and returns err.
func (l *lock) noteLease(err error) error {
	switch reached := err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) ||
		apierrors.IsAlreadyExists(err) || errors.Is(err, ErrSuperseded) || errors.Is(err, errMissing) || errors.Is(err, errNotStanding); {
	case errors.Is(err, errNotStanding):
		if !l.refusing {
			l.log.Warn("not standing for election", "lease", l.Describe(), "err", err)
		}
		l.refusing = true
	case errors.Is(err, errMissing) && !l.waiting:
		l.waiting = true
		l.log.Warn("waiting for whoever may hold the Lease", "lease", l.Describe(), "err", err)
	case reached && l.failing:
		l.failing = false
		l.log.Info("the Lease can be reached again", "lease", l.Describe())
	case !reached && !l.failing:
		l.failing = true
		l.log.Warn("the Lease cannot be read or written; trying on", "lease", l.Describe(), "err", err)
	}
	return err
}

// readLease fetches the Lease and, once this process led, judges whether it still holds it. The
// caller has the turn.
func (l *lock) readLease(ctx context.Context) error {
	lease, err := l.leases.Get(ctx, l.name, metav1.GetOptions{})
	if err != nil {
		if apierrors.IsNotFound(err) && l.missing < 0 {
			l.missing = l.fence.clock()
		}
		return err
	}
	l.lease, l.missing, l.waiting = lease, -1, false
	if l.held != nil {
		if err := l.held.continuesIn(lease, l.identity); err != nil {
			l.loseLease(err)
			return err
		}
	}
	return nil
}

// createLease makes the Lease that is not there. The caller has the turn.
func (l *lock) createLease(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if err := l.isCandidate(); err != nil {
		return err
	}
	if err := l.mayCreate(); err != nil {
		return err
	}
	term := l.termFor(0, record.LeaderTransitions)
	start := l.fence.clock()
	lease, err := l.leases.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name:        l.name,
			Namespace:   l.namespace,
			Annotations: map[string]string{TermAnnotation: strconv.FormatUint(term, 10)},
		},
		Spec: resourcelock.LeaderElectionRecordToLeaseSpec(&record),
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if l.held == nil {
		// The replica that held it may not know yet, and it may have been made and deleted once
		// more between two of our reads: what was renewed before it was gone lasts that long.
		l.fence.waitForWrites(l.fence.clock() + l.patience)
	}
	l.leaseWritten(lease, term, start)
	return nil
}

// isCandidate says why a Lease that is not ours must not be taken. What a leader knows must be
// as new as its decisions; one that has led goes on with what it has.
func (l *lock) isCandidate() error {
	if l.held != nil {
		return nil
	}
	if err := l.mayStand(); err != nil {
		return fmt.Errorf("%w: %w", errNotStanding, err)
	}
	l.refusing = false
	return nil
}

// mayCreate says why a missing Lease must not be made. A Lease is deleted by people or
// by a restore, never by us. The replica that held it has had no sign of it yet, and makes
// it again. Others give that replica the time of a request. The manifests ship the
// Lease without a holder, so that a first start does not wait.
func (l *lock) mayCreate() error {
	if l.held != nil {
		if err := l.fence.Err(); err != nil {
			err = fmt.Errorf("%w: the Lease was deleted while it was not being renewed: %w", ErrSuperseded, err)
			l.loseLease(err)
			return err
		}
		return nil
	}
	if l.missing < 0 {
		return nil
	}
	if left := l.missing + min(l.timeout, l.patience) - l.fence.clock(); left > 0 {
		return fmt.Errorf("%w: making it in %v", errMissing, left.Round(time.Millisecond))
	}
	return nil
}

// updateLease writes record and the term over the Lease as last seen. The caller has the turn.
func (l *lock) updateLease(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if err := l.isCandidate(); err != nil {
		return err
	}
	lease := l.lease.DeepCopy()
	recorded, err := termOf(lease)
	if err != nil {
		l.log.Warn("the Lease's term cannot be read and is replaced", "lease", l.Describe(), "err", err)
	}
	term := l.termFor(recorded, record.LeaderTransitions)
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[TermAnnotation] = strconv.FormatUint(max(recorded, term), 10)
	lease.Spec = resourcelock.LeaderElectionRecordToLeaseSpec(&record)

	start := l.fence.clock()
	lease, err = l.leases.Update(ctx, lease, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	l.leaseWritten(lease, term, start)
	return nil
}

// termFor returns the term to write: a new one where this process never led, otherwise
// its own, above what nodes have heard.
func (l *lock) termFor(recorded uint64, transitions int) uint64 {
	term, heard := l.term.Load(), l.heard.Load()
	switch {
	case term == 0:
		return nextTerm(recorded, heard, transitions)
	case heard >= term:
		return heard + 1
	}
	return term
}

// leaseWritten takes note of a successful write of a Lease that we hold, begun at start.
func (l *lock) leaseWritten(lease *coordinationv1.Lease, term uint64, start time.Duration) {
	l.lease, l.missing = lease, -1
	l.held = ptr.To(tenureOf(lease))
	l.term.Store(term)
	l.fence.renewUntil(start)
	l.changed()
}

func (l *lock) loseLease(cause error) {
	l.fence.closeFence()
	l.superseded(cause)
}

// raiseTerm writes a term above heard if this process leads and its term is not.
func (l *lock) raiseTerm(ctx context.Context) error {
	for {
		err := l.tryRaise(ctx)
		if !apierrors.IsConflict(err) {
			return err
		}
	}
}

func (l *lock) tryRaise(ctx context.Context) error {
	ctx, end, err := l.beginTurn(ctx)
	if err != nil {
		return err
	}
	defer end()
	if l.held == nil || l.heard.Load() < l.term.Load() {
		return nil
	}
	err = l.readLease(ctx)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	// The write counts as a renewal, so it has to look like one to the other replicas.
	record := resourcelock.LeaseSpecToLeaderElectionRecord(&l.lease.Spec)
	record.RenewTime = metav1.Now()
	if err != nil {
		return l.createLease(ctx, *record)
	}
	return l.updateLease(ctx, *record)
}

// acquireLease takes the Lease, whichever replica holds it.
func (l *lock) acquireLease(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	ctx, end, err := l.beginTurn(ctx)
	if err != nil {
		return err
	}
	defer end()
	switch err := l.readLease(ctx); {
	case apierrors.IsNotFound(err):
		return l.createLease(ctx, record)
	case err != nil:
		return err
	}
	record.LeaderTransitions = int(ptr.Deref(l.lease.Spec.LeaseTransitions, 0)) + 1
	return l.updateLease(ctx, record)
}

// releaseLease gives the Lease back if this process holds it, so that the next replica need
// not wait for it to expire. The term stays in it.
func (l *lock) releaseLease(ctx context.Context) error {
	for {
		err := l.tryRelease(ctx)
		if !apierrors.IsConflict(err) {
			return err
		}
	}
}

func (l *lock) tryRelease(ctx context.Context) error {
	ctx, end, err := l.beginTurn(ctx)
	if err != nil {
		return err
	}
	defer end()
	if l.held == nil {
		return nil
	}
	err = l.readLease(ctx)
	if errors.Is(err, ErrSuperseded) || apierrors.IsNotFound(err) {
		return nil // nothing of ours to give back
	}
	if err != nil {
		return err
	}
	lease := l.lease.DeepCopy()
	lease.Spec.HolderIdentity = ptr.To("")
	lease.Spec.LeaseDurationSeconds = ptr.To[int32](1)
	lease.Spec.RenewTime = ptr.To(metav1.NowMicro())
	_, err = l.leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}
