package observer

import (
	"slices"
	"time"
)

// span is a time from its first to its last moment.
type span struct{ from, until time.Time }

func (s span) length() time.Duration { return s.until.Sub(s.from) }

// meet returns what is in both, which has a negative length if nothing is.
func (s span) meet(o span) span {
	return span{later(s.from, o.from), earlier(s.until, o.until)}
}

// without returns the parts of s that are in none of the others.
func (s span) without(others []span) []span {
	left := []span{s}
	for _, o := range others {
		var next []span
		for _, l := range left {
			if l.meet(o).length() < 0 {
				next = append(next, l)
				continue
			}
			if o.from.After(l.from) {
				next = append(next, span{l.from, o.from})
			}
			if o.until.Before(l.until) {
				next = append(next, span{o.until, l.until})
			}
		}
		left = next
	}
	return left
}

// cutAt divides s at those of the moments that are in it, which are in order.
func (s span) cutAt(moments []time.Time) []span {
	var out []span
	for _, m := range moments {
		if m.After(s.from) && m.Before(s.until) {
			out = append(out, span{s.from, m})
			s.from = m
		}
	}
	return append(out, s)
}

// common returns the times that are in one of x and in one of y.
func common(x, y []span) []span {
	var out []span
	for _, a := range x {
		for _, b := range y {
			if both := a.meet(b); both.length() >= 0 {
				out = append(out, both)
			}
		}
	}
	return out
}

// union joins spans that touch, and sorts.
func union(in []span) []span {
	sorted := slices.Clone(in)
	slices.SortFunc(sorted, func(a, b span) int { return a.from.Compare(b.from) })
	var out []span
	for _, s := range sorted {
		if n := len(out); n > 0 && !s.from.After(out[n-1].until) {
			out[n-1].until = later(out[n-1].until, s.until)
			continue
		}
		out = append(out, s)
	}
	return out
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
