package planfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/control"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// pause is the least time between two writes, except for a plan of another term, which
	// is written at once: which leader counts must not be forgotten.
	pause = 5 * time.Second
	// termPause is the least time between two such exceptions: a leader that raises its term
	// again and again costs the disk no more than one that does not.
	termPause = time.Minute
)

// Options are what a Keeper needs.
type Options struct {
	// Path is the file. Its directory has to be there.
	Path string
	// Node is the name of the Node that this process runs on.
	Node string
	// Account returns the UID of the ServiceAccount that this process runs as, by which a
	// node that was moved to another cluster is known.
	Account func() (string, error)
	// Logger takes what an operator should know; nil discards it.
	Logger *slog.Logger
}

// Keeper keeps the newest plan in a file. Keep and Counts may be called from any goroutine
// and never wait.
type Keeper struct {
	options Options
	log     *slog.Logger
	wake    chan struct{} // of one; never closed

	written, failed atomic.Uint64

	mu      sync.Mutex
	pending plan.NodePlan // zero when all is written
}

// NewKeeper returns a Keeper that writes nothing until Run.
func NewKeeper(options Options) *Keeper {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	return &Keeper{options: options, log: options.Logger, wake: make(chan struct{}, 1)}
}

// Load returns the plan in the file, or the zero Set where there is none that this node may
// use; why is logged.
func (k *Keeper) Load() plan.NodePlan {
	kept, err := k.loadFile()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.log.Info("no plan is kept on disk", "file", k.options.Path)
	case err != nil:
		k.log.Warn("the plan on disk is discarded", "file", k.options.Path, "error", err)
	default:
		k.log.Info("a plan is kept on disk", "file", k.options.Path, "plan", kept.Plan.Version, "cluster", kept.Plan.Cluster)
		return kept.Plan
	}
	return plan.NodePlan{}
}

func (k *Keeper) loadFile() (control.PersistedPlan, error) {
	data, err := readFile(k.options.Path)
	if err != nil {
		return control.PersistedPlan{}, err
	}
	kept, err := Decode(data)
	if err != nil {
		return control.PersistedPlan{}, err
	}
	account, err := k.options.Account()
	switch {
	case err != nil:
		return control.PersistedPlan{}, fmt.Errorf("whose plan it is cannot be told: %w", err)
	case kept.Account != account:
		return control.PersistedPlan{}, fmt.Errorf("it is of another cluster (%s): its ServiceAccount has UID %q, this one's has %q", kept.Plan.Cluster, kept.Account, account)
	case kept.Node != k.options.Node:
		return control.PersistedPlan{}, fmt.Errorf("it is of node %s, and this is %s", kept.Node, k.options.Node)
	}
	return kept, nil
}

// Keep schedules the writing of set in a while, in place of what waits to be written. The caller
// must not write to set afterwards.
func (k *Keeper) Keep(set plan.NodePlan) {
	k.mu.Lock()
	k.pending = set
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Counts returns how often the file was written, and how often that failed.
func (k *Keeper) Counts() (written, failed uint64) { return k.written.Load(), k.failed.Load() }

// Run writes until ctx is done, and then what waits. It returns nil.
func (k *Keeper) Run(ctx context.Context) error {
	w := writer{Keeper: k}
	timer := time.NewTimer(pause)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			w.writeWaiting()
			return nil
		case <-k.wake:
		case <-timer.C:
		}
		if wait := w.waitTime(time.Now()); wait > 0 {
			timer.Reset(wait)
		} else if !w.writeWaiting() {
			timer.Reset(pause)
		}
	}
}

// writer is the part of a Keeper that its Run owns.
type writer struct {
	*Keeper
	// tried is when it last wrote, or tried to, and term that of what it wrote. hurried is
	// when it last wrote at once because of a term.
	tried, hurried time.Time
	term           uint64
	// complaint is what was logged last.
	complaint string
}

// waitTime returns how long what waits has to wait.
func (w *writer) waitTime(now time.Time) time.Duration {
	wait := w.tried.Add(pause).Sub(now)
	next := w.nextPlan().Version
	if wait > 0 && !next.IsZero() && next.Term != w.term && w.complaint == "" && now.Sub(w.hurried) >= termPause {
		w.hurried = now
		return 0
	}
	return wait
}

func (w *writer) nextPlan() plan.NodePlan {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pending
}

// writeWaiting writes what waits, if anything does, and reports whether nothing is left to do for it.
func (w *writer) writeWaiting() bool {
	set := w.nextPlan()
	if set.Version.IsZero() {
		return true
	}
	err := w.savePlan(set)
	w.tried = time.Now()
	if err != nil {
		w.failed.Add(1)
		if err.Error() != w.complaint {
			w.complaint = err.Error()
			w.log.Warn("the plan cannot be kept on disk; a restart without baremetal-ccm would know nothing, or an older plan", "file", w.options.Path, "error", err)
		}
		return false
	}
	w.written.Add(1)
	w.term, w.complaint = set.Version.Term, ""
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending.Version == set.Version && w.pending.Cluster == set.Cluster {
		w.pending = plan.NodePlan{}
	}
	return true
}

func (w *writer) savePlan(set plan.NodePlan) error {
	account, err := w.options.Account()
	if err != nil {
		return err
	}
	data, err := Encode(control.PersistedPlan{Node: w.options.Node, Account: account, Plan: set})
	if err != nil {
		return err
	}
	return replaceFile(w.options.Path, data)
}
