package responder

import (
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// replyRate bounds how many replies a second a Responder sends, and replyBurst how many at
	// once: a thousand hosts that ask for one address at once are all answered. Announcements do
	// not count.
	replyRate  = 1000
	replyBurst = 2500
	// scarce is how little is left of replyBurst when a host that asks for the same again is
	// answered once in repeatPause only: one that storms leaves room for others.
	scarce      = replyBurst / 2
	repeatPause = 100 * time.Millisecond
	// remembered is how many of the last replies are kept for that. Two may have the same place.
	remembered = 1024
)

// replyLimit bounds the replies of a Responder. Its readers share it.
type replyLimit struct {
	seed maphash.Seed
	left *rate.Limiter

	mu sync.Mutex
	// last are replies by their hash; it is guarded by mu.
	last [remembered]struct {
		hash uint64
		at   time.Time
	}
}

func newReplyLimit() *replyLimit {
	return &replyLimit{seed: maphash.MakeSeed(), left: rate.NewLimiter(replyRate, replyBurst)}
}

// allowsReply reports whether reply may be sent at now. A reply names the host that asked, and
// what it asked for.
func (l *replyLimit) allowsReply(now time.Time, reply []byte) bool {
	if l.left.TokensAt(now) < scarce && l.repeatsReply(now, reply) {
		return false
	}
	return l.left.AllowN(now, 1)
}

// repeatsReply reports whether the same was sent a moment ago.
func (l *replyLimit) repeatsReply(now time.Time, reply []byte) bool {
	hash := maphash.Bytes(l.seed, reply)
	l.mu.Lock()
	defer l.mu.Unlock()
	place := &l.last[hash%remembered]
	if place.hash == hash && now.Sub(place.at) < repeatPause {
		return true
	}
	place.hash, place.at = hash, now
	return false
}
