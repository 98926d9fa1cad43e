// Package history records what an API server says about Services, version by version,
// and judges it: whether an address was held twice, whether one was lost or changed
// without a cause, and whether somebody waits who need not. It asks the API server and
// nobody else, so that it does not depend on what the programs under test say of
// themselves.
package history

import (
	"cmp"
	"slices"
	"time"
)

// Change is a version of a Service, of the cloud-config in use or of the Lease, or
// something that the test did. Exactly one of its parts is set.
type Change struct {
	// Revision is the resourceVersion, which orders the changes of all objects; 0 for
	// what the test did.
	Revision uint64
	// At is when the recorder heard of it.
	At time.Time

	Service *Service
	// Gone says that Service is the last version of an object that was deleted.
	Gone   bool
	Config *Config
	Leader *string
	Note   string
}

// History is the changes in the order in which the API server made them.
type History []Change

// order sorts changes by revision. What the test did has none and is put where its time
// belongs.
func order(changes []Change) History {
	var versions, notes []Change
	for _, c := range changes {
		if c.Revision == 0 {
			notes = append(notes, c)
		} else {
			versions = append(versions, c)
		}
	}
	slices.SortStableFunc(versions, func(x, y Change) int { return cmp.Compare(x.Revision, y.Revision) })
	out := make(History, 0, len(changes))
	for _, v := range versions {
		for len(notes) > 0 && notes[0].At.Before(v.At) {
			out, notes = append(out, notes[0]), notes[1:]
		}
		out = append(out, v)
	}
	return append(out, notes...)
}

// life is one Service object from its creation to its end, as far as it is known.
type life struct {
	versions []Change
	gone     bool
}

func (l *life) last() *Service { return l.versions[len(l.versions)-1].Service }

// between returns the versions that were current at some time from since to until.
func (l *life) between(since, until time.Time) []*Service {
	var out []*Service
	for i, v := range l.versions {
		if v.At.After(until) {
			break
		}
		if i+1 < len(l.versions) && l.versions[i+1].At.Before(since) {
			continue
		}
		out = append(out, v.Service)
	}
	return out
}

// lives follows every Service object; by UID.
type lives map[string]*life

func (l lives) add(c Change) *life {
	known, ok := l[c.Service.UID]
	if !ok {
		known = &life{}
		l[c.Service.UID] = known
	}
	known.versions = append(known.versions, c)
	known.gone = c.Gone
	return known
}
