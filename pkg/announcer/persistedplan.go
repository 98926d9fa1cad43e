package announcer

import (
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// leaderWaitLimit is how long a plan of an earlier life waits for a leader to confirm or
// replace it: a replica that is there needs some tenths of a second. Peers are listened to
// meanwhile.
const leaderWaitLimit = time.Second

// persistedPlan is what the announcer has to know of a plan that an earlier life of the announcer
// accepted. It is zero once a leader has spoken.
type persistedPlan struct {
	// unconfirmed reports whether no leader has spoken yet.
	unconfirmed bool
	// until is how long one is waited for, in the time of package failover; zero is not at all.
	until time.Duration
}

// isWaiting reports whether the plan is not carried out yet.
func (k persistedPlan) isWaiting() bool { return k.until != 0 }

// restorePlan takes the plan of an earlier life, if there is one. From now on nothing older is
// accepted.
func (c *core) restorePlan(boot time.Duration, set plan.NodePlan) {
	if set.Version.IsZero() {
		return
	}
	c.nodePlan, c.persisted = set, persistedPlan{unconfirmed: true, until: boot + leaderWaitLimit}
}

// resumePlan reports whether to carry out the plan of an earlier life from now on.
func (c *core) resumePlan(boot time.Duration) bool {
	if !c.persisted.isWaiting() || boot < c.persisted.until {
		return false
	}
	c.persisted.until = 0
	c.reconsiderAll()
	return true
}
