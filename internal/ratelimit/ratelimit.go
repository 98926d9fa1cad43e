// Package ratelimit has token buckets, alone and by key, whose memory is bounded. It is
// pure: time is an argument, and its owner guards it.
package ratelimit

import "time"

// Limit is how often something may happen.
type Limit struct {
	// Rate is how often a second in the long run, Burst how often at once.
	Rate, Burst float64
}

// Bucket is a token bucket. The zero value is full.
type Bucket struct {
	used float64 // of the burst, at the time of last
	last time.Time
}

// Take reports whether one more may happen now, and counts it if so.
func (b *Bucket) Take(l Limit, now time.Time) bool {
	b.refill(l, now)
	if b.used+1 > l.Burst {
		return false
	}
	b.used++
	return true
}

// Wait returns how long to wait until one more may happen; 0 is not at all.
func (b *Bucket) Wait(l Limit, now time.Time) time.Duration {
	b.refill(l, now)
	if over := b.used + 1 - l.Burst; over > 0 {
		return time.Duration(over / l.Rate * float64(time.Second))
	}
	return 0
}

// Spend counts n, though there may not be so much left, and returns how long to wait until
// no more than the burst is used.
func (b *Bucket) Spend(l Limit, now time.Time, n float64) time.Duration {
	b.refill(l, now)
	b.used += n
	if over := b.used - l.Burst; over > 0 {
		return time.Duration(over / l.Rate * float64(time.Second))
	}
	return 0
}

// Refund takes back one that was counted.
func (b *Bucket) Refund() { b.used = max(b.used-1, 0) }

func (b *Bucket) refill(l Limit, now time.Time) {
	if elapsed := now.Sub(b.last); elapsed > 0 {
		b.used = max(b.used-elapsed.Seconds()*l.Rate, 0)
		b.last = now
	}
}

// Keyed is a bucket for each key. It remembers at most Size keys; while it is full of keys
// that are in use, a key that is not among them is refused.
type Keyed[K comparable] struct {
	Limit Limit
	Size  int

	buckets map[K]*Bucket
}

// Take reports whether one more may happen now for key, and counts it if so.
func (k *Keyed[K]) Take(key K, now time.Time) bool {
	b := k.buckets[key]
	if b == nil {
		if len(k.buckets) >= k.Size {
			k.sweep(now)
		}
		if len(k.buckets) >= k.Size {
			return false
		}
		if k.buckets == nil {
			k.buckets = map[K]*Bucket{}
		}
		b = &Bucket{}
		k.buckets[key] = b
	}
	return b.Take(k.Limit, now)
}

// Refund takes back one that was counted for key.
func (k *Keyed[K]) Refund(key K) {
	if b := k.buckets[key]; b != nil {
		b.Refund()
	}
}

// Len returns how many keys are remembered.
func (k *Keyed[K]) Len() int { return len(k.buckets) }

// sweep forgets the keys whose buckets are full.
func (k *Keyed[K]) sweep(now time.Time) {
	for key, b := range k.buckets {
		if b.refill(k.Limit, now); b.used == 0 {
			delete(k.buckets, key)
		}
	}
}
