package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

// cache remembers accepted tokens by their hash, for a bounded time and up to a bounded
// number.
type cache struct {
	size int

	mu      sync.Mutex
	entries map[[sha256.Size]byte]entry
}

type entry struct {
	reviewed reviewed
	until    time.Time
}

func newCache(size int) *cache {
	return &cache{size: size, entries: make(map[[sha256.Size]byte]entry)}
}

func (c *cache) getReview(token string, now time.Time) (reviewed, bool) {
	key := sha256.Sum256([]byte(token))
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.entries[key]
	if ok && !now.Before(found.until) {
		delete(c.entries, key)
		return reviewed{}, false
	}
	return found.reviewed, ok
}

func (c *cache) putReview(token string, r reviewed, now, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= c.size {
		c.makeRoomLocked(now)
	}
	c.entries[sha256.Sum256([]byte(token))] = entry{reviewed: r, until: until}
}

// dropToken forgets a token.
func (c *cache) dropToken(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, sha256.Sum256([]byte(token)))
}

// makeRoomLocked drops what expired, or any entry if nothing has: losing one costs no
// more than another review.
func (c *cache) makeRoomLocked(now time.Time) {
	for key, e := range c.entries {
		if !now.Before(e.until) {
			delete(c.entries, key)
		}
	}
	for key := range c.entries {
		if len(c.entries) < c.size {
			return
		}
		delete(c.entries, key)
	}
}
