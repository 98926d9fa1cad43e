package plan

import (
	"errors"
	"fmt"
	"slices"
)

// Bounds on terms. An honest one is the number of leaders that there were, so that no party
// that has a leader's key for a while can use up what is left.
const (
	// MaxTerm is beyond what any honest history reaches and far from overflow.
	MaxTerm = uint64(1) << 62
	// MaxLeap is how far the term of a plan may be above the one that a node holds, and above
	// the one that it held a minute ago. A leader raises its own by half of it at once, so
	// that what one node accepts no other one refuses.
	MaxLeap = uint64(1) << 20
)

// ImplausibleError means that no history of leaders can have reached a plan's term.
type ImplausibleError struct {
	// Have is the newest version accepted so far, Got the one that was offered.
	Have, Got Version
}

// Error implements error.
func (e *ImplausibleError) Error() string {
	return fmt.Sprintf("plan %s refused: plan %s is held, and no history of leaders leads to that term; a stranger may have the key of baremetal-ccm", e.Got, e.Have)
}

// ErrIncomplete means that a plan names no cluster or carries no version, so that no reader can
// tell what it supersedes.
var ErrIncomplete = errors.New("plan names no cluster or has no version")

// ForeignError means that a plan comes from another cluster than the one whose plan is held.
type ForeignError struct {
	// Have and Got are the UIDs of the two clusters' namespaces kube-system.
	Have, Got string
}

// Error implements error.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("plan of cluster %s refused: this node carries out plans of cluster %s; restart the announcer if the node was moved", e.Got, e.Have)
}

// StaleError means that a plan is not newer than the newest that was accepted.
type StaleError struct {
	// Have is the newest version accepted so far, Got the one that was offered.
	Have, Got Version
}

// Error implements error.
func (e *StaleError) Error() string {
	return fmt.Sprintf("plan %s refused: plan %s was accepted before", e.Got, e.Have)
}

// Duplicate reports whether the very plan was offered again, as each new stream does.
func (e *StaleError) Duplicate() bool { return e.Have == e.Got }

// String returns the version as people read it: "term.revision".
func (s Version) String() string { return fmt.Sprintf("%d.%d", s.Term, s.Revision) }

// Supersede is the fencing rule for the first plan of a leader after a restart: it says
// whether a node that kept the plan kept from an earlier life may replace it by got. Unlike
// with Accept the very plan is taken, because a leader now stands by it; and that of another
// cluster, because it has been proved which leader speaks for this one, and not which spoke when
// kept was accepted.
func Supersede(kept, got NodePlan) error {
	if kept.Cluster != got.Cluster {
		return Accept(NodePlan{}, got)
	}
	err := Accept(kept, got)
	if stale, ok := errors.AsType[*StaleError](err); ok && stale.Duplicate() {
		return nil
	}
	return err
}

// Overturns reports whether got may replace have only because the authority by which the
// speaker of have was known is not trusted where got comes from: it was replaced since. Then
// have fences nothing. It is the way back from a stolen key: replacing the authority is the
// administrator's, and the API server's audit log has it. Where the authority is replaced in
// the usual course, what a leader says is newer than what is held, and nothing is overturned.
func Overturns(have, got NodePlan) bool {
	err := acceptFrom(have, got)
	stale, _ := errors.AsType[*StaleError](err)
	return err != nil && (stale == nil || !stale.Duplicate()) && isRevoked(have, got) && acceptFrom(NodePlan{}, got) == nil
}

func isRevoked(have, got NodePlan) bool {
	return have.Voucher.Authority != "" && got.Voucher.Authority != "" && !slices.Contains(got.Voucher.Trusted, have.Voucher.Authority)
}

// Accept is the fencing rule: it says whether a node that holds the plan have, the zero
// Set if it holds none, may replace it by got. Nil means yes. Otherwise the error is
// ErrIncomplete, a *ForeignError, a *StaleError or an *ImplausibleError, and have stays in
// force untouched.
func Accept(have, got NodePlan) error {
	if Overturns(have, got) {
		return nil
	}
	return acceptFrom(have, got)
}

func acceptFrom(have, got NodePlan) error {
	if got.Cluster == "" || got.Version.IsZero() {
		return ErrIncomplete
	}
	if got.Version.Term > MaxTerm || !have.Version.IsZero() && have.Cluster == got.Cluster && got.Version.Term > have.Version.Term+MaxLeap {
		return &ImplausibleError{Have: have.Version, Got: got.Version}
	}
	if have.Cluster != "" && have.Cluster != got.Cluster {
		return &ForeignError{Have: have.Cluster, Got: got.Cluster}
	}
	if got.Version.Compare(have.Version) <= 0 {
		return &StaleError{Have: have.Version, Got: got.Version}
	}
	return nil
}
