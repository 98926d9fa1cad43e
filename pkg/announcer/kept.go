package announcer

import (
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// leaderPatience is how long a plan of an earlier life waits for a leader to confirm or
// replace it: a replica that is there needs some tenths of a second. Peers are listened to
// meanwhile.
const leaderPatience = time.Second

// kept is what is to be known of a plan that an earlier life of the announcer accepted. It
// is zero once a leader has spoken.
type kept struct {
	// unconfirmed says that no leader has spoken yet.
	unconfirmed bool
	// until is how long one is waited for, in the time of package sight; zero is not at all.
	until time.Duration
}

// waits says that the plan is not carried out yet.
func (k kept) waits() bool { return k.until != 0 }

// restore takes the plan of an earlier life, if there is one. From now on nothing older is
// accepted.
func (c *core) restore(boot time.Duration, set announcement.Set) {
	if set.Stamp.IsZero() {
		return
	}
	c.set, c.kept = set, kept{unconfirmed: true, until: boot + leaderPatience}
}

// resume reports whether the plan of an earlier life is to be carried out from now on.
func (c *core) resume(boot time.Duration) bool {
	if !c.kept.waits() || boot < c.kept.until {
		return false
	}
	c.kept.until = 0
	c.reconsiderAll()
	return true
}
