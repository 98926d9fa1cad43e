package leader

import (
	"errors"
	"fmt"
	"strconv"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TermAnnotation is the Lease's annotation that holds the term of its holder, or of the
// last one if no replica holds it, as a decimal number.
const TermAnnotation = "baremetal.cloud/term"

const (
	// maxTerm is beyond what any honest history reaches and far from overflow.
	maxTerm = plan.MaxTerm
	// maxLeap is how far above our own term a term may be that a node claims to have
	// heard. Terms grow by one per leader; without a bound one lying node could use
	// them all up, and announcers would refuse what is further above.
	maxLeap = plan.MaxLeap
)

// ErrImplausible is returned by Raise for a term that no history of leaders can have
// reached. The node that reports it is broken or lies.
var ErrImplausible = errors.New("implausible term")

// termOf returns the term that lease records. A Lease without the annotation has term 0.
func termOf(lease *coordinationv1.Lease) (uint64, error) {
	text, ok := lease.Annotations[TermAnnotation]
	if !ok {
		return 0, nil
	}
	term, err := strconv.ParseUint(text, 10, 64)
	if err == nil && term > maxTerm {
		err = ErrImplausible
	}
	if err != nil {
		return 0, fmt.Errorf("annotation %s: %q: %w", TermAnnotation, text, err)
	}
	return term, nil
}

// nextTerm returns the term of a replica that takes a Lease that recorded the term recorded,
// where heard is the highest term known from the nodes. Transitions is the count of holders,
// this one included: it alone keeps terms apart where the annotation was taken away.
func nextTerm(recorded, heard uint64, transitions int) uint64 {
	return max(recorded+1, heard+1, uint64(max(transitions, 0)))
}

// tenure is how a replica recognises the Lease that it holds.
type tenure struct {
	uid         types.UID
	transitions int32
}

func tenureOf(lease *coordinationv1.Lease) tenure {
	return tenure{uid: lease.UID, transitions: ptr.Deref(lease.Spec.LeaseTransitions, 0)}
}

// continuesIn returns nil if lease shows that identity has held it all the time since it
// was t, and an ErrSuperseded otherwise. Only the replica itself ever writes its
// identity, which is unique to its process: a replica that held the Lease in between left
// another holder, none, a higher count of transitions or another Lease behind.
func (t tenure) continuesIn(lease *coordinationv1.Lease, identity string) error {
	switch holder := ptr.Deref(lease.Spec.HolderIdentity, ""); {
	case holder == "":
		return fmt.Errorf("%w: somebody released the Lease", ErrSuperseded)
	case holder != identity:
		return fmt.Errorf("%w by %s", ErrSuperseded, holder)
	case tenureOf(lease) != t:
		return fmt.Errorf("%w: the Lease is not the one that this replica took", ErrSuperseded)
	}
	return nil
}
