package failover

import "time"

const (
	// claimWaitLimit is for how long a peer that is up may leave others without word of what it
	// claims. It is asked all the time; then what it did not tell does not count.
	claimWaitLimit = 2 * time.Second
	// claimWaitPause is for how many times as long a peer has to tell what it claims, until others
	// wait for it again as long as they did.
	claimWaitPause = 30
)

// claimWait is for how long others wait for what a peer claims. A peer that tells it now and then
// does not make them wait anew each time: otherwise a peer that lies would keep every node from
// ever taking an address.
type claimWait struct {
	// since is when the peer began not to tell, 0 where it tells.
	since time.Duration
	// spent is how long others have waited, as of at, and over reports that they wait no more.
	spent, at time.Duration
	over      bool
}

// stopWait takes that until now the peer did not tell what it claims, and does now or is silent.
func (p *claimWait) stopWait(now time.Duration) {
	if p.since != 0 {
		p.spent, p.at, p.since = min(claimWaitLimit, p.spent+now-p.since), now, 0
		p.over = p.over || p.spent == claimWaitLimit
	}
}

// startWait takes that the peer is heard and does not tell what it claims, and reports whether
// others cease to wait for that.
func (p *claimWait) startWait(now time.Duration) (ceased bool) {
	if p.since == 0 {
		p.spent, p.since = max(0, p.spent-(now-p.at)/claimWaitPause), now
		p.over = p.over && p.spent > claimWaitLimit/2
	}
	ceased = !p.over && p.spent+now-p.since >= claimWaitLimit
	p.over = p.over || ceased
	return ceased
}
