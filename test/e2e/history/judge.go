package history

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/ipam"
)

// slack is by how much what the leader acts on may be behind what the API server knows.
const slack = 5 * time.Second

// Complaint is a promise that was broken.
type Complaint struct {
	// Revision is when: that of the version of the Service that shows it.
	Revision uint64
	Service  string
	What     string
}

// String prints the complaint on one line.
func (c Complaint) String() string {
	return fmt.Sprintf("revision %d: %s: %s", c.Revision, c.Service, c.What)
}

// judge walks through a history.
type judge struct {
	lives lives
	// held are the addresses that a Service has as far as we are concerned, by UID: those
	// in its status, unless somebody else put them there.
	held map[string][]netip.Addr
	// forged is the status that somebody else wrote, as long as it stands.
	forged map[string][]netip.Addr
	// configs are all of the history.
	configs []Change
	out     []Complaint
}

// Complaints returns where the history breaks promise 1 (no address twice) or 2 (an
// address stays). byHand are the revisions at which the test wrote a status itself: it is
// no holding, and whoever had an address before is to have it after the repair.
func (h History) Complaints(byHand ...uint64) []Complaint {
	j := &judge{lives: lives{}, held: map[string][]netip.Addr{}, forged: map[string][]netip.Addr{}}
	for _, c := range h {
		if c.Config != nil {
			j.configs = append(j.configs, c)
		}
	}
	for _, c := range h {
		if c.Service != nil {
			j.version(c, slices.Contains(byHand, c.Revision))
		}
	}
	return j.out
}

func (j *judge) complain(c Change, format string, args ...any) {
	j.out = append(j.out, Complaint{c.Revision, c.Service.String(), fmt.Sprintf(format, args...)})
}

// version judges one version of a Service against the one before it.
func (j *judge) version(c Change, byHand bool) {
	s := c.Service
	of := j.lives.add(c)
	if c.Gone {
		delete(j.held, s.UID)
		return
	}
	if byHand {
		j.forged[s.UID] = s.Addresses
	}
	if forged, ok := j.forged[s.UID]; ok && slices.Equal(forged, s.Addresses) && s.Balanced {
		return
	}
	delete(j.forged, s.UID)
	before := j.held[s.UID]
	j.held[s.UID] = s.Addresses
	if !s.Balanced || s.Deleting {
		return
	}
	for _, a := range s.Addresses {
		if !slices.Contains(before, a) {
			j.gained(c, of, a)
		}
	}
	for _, a := range before {
		if !slices.Contains(s.Addresses, a) {
			j.lost(c, of, a)
		}
	}
}

// gained judges that a Service has an address that it did not have.
func (j *judge) gained(c Change, of *life, a netip.Addr) {
	configs := j.known()
	for uid, other := range j.lives {
		s := other.last()
		if uid == c.Service.UID || other.gone || s.Deleting || !s.Balanced || !slices.Contains(j.held[uid], a) {
			continue
		}
		if !onceShared(a, of, other, configs, slack) {
			j.complain(c, "is given %s, which %s holds", a, s)
		}
	}
	fits := func(s *Service) bool {
		want := s.asked(ipam.FamilyOf(a))
		return slices.Contains(s.Families, ipam.FamilyOf(a)) && (!want.IsValid() || want == a) &&
			slices.ContainsFunc(configs, func(cfg *Config) bool {
				return cfg.poolOf(a) != nil && (s.Pool == "" || cfg.in(a, s.Pool))
			})
	}
	// Any version may have asked for it: a refusal of what it asks for later keeps it.
	if len(configs) > 0 && !slices.ContainsFunc(of.versions, func(v Change) bool { return fits(v.Service) }) {
		j.complain(c, "is given %s, which it never asked for", a)
	}
}

// lost judges that a Service has no longer an address that it had.
func (j *judge) lost(c Change, of *life, a netip.Addr) {
	f := ipam.FamilyOf(a)
	now := c.Service.address(f)
	for _, s := range of.between(c.At.Add(-slack), c.At) {
		if !s.Balanced || !slices.Contains(s.Families, f) {
			return
		}
		if now.IsValid() && now == s.asked(f) {
			return
		}
		for _, cfg := range j.recent(c.At) {
			switch {
			case !now.IsValid():
			case s.Pool != "" && !cfg.in(a, s.Pool) && cfg.in(now, s.Pool):
				return
			case cfg.OnShrink == config.ShrinkReassign && cfg.poolOf(a) == nil:
				return
			}
		}
	}
	if now.IsValid() {
		j.complain(c, "loses %s for %s without a cause", a, now)
		return
	}
	j.complain(c, "loses %s without a cause", a)
}

// recent returns the configs that the leader may have used for what was seen at a time.
// It says that it uses one only after it has begun to.
func (j *judge) recent(at time.Time) []*Config {
	var out []*Config
	for i, c := range j.configs {
		over := i+1 < len(j.configs) && j.configs[i+1].At.Before(at.Add(-slack))
		if !over && c.At.Before(at.Add(slack)) {
			out = append(out, c.Config)
		}
	}
	return out
}

func (j *judge) known() []*Config {
	var out []*Config
	for _, c := range j.configs {
		out = append(out, c.Config)
	}
	return out
}
