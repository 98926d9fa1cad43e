package loadbalancer

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/ipam"
)

// Balancer is the core. The zero value is not usable; call New. It is not safe for
// concurrent use.
type Balancer struct {
	addresses *ipam.Allocator
	l2        map[string]L2
	bgp       BGP
	// order holds the places of advertisements, by name, among those of their pool.
	order     map[string]int
	services  map[string]*service        // by UID
	uids      map[string]map[string]bool // by key; two while a Service is made anew
	endpoints map[string]Endpoints
	nodes     map[string]Node
	// peers are who the routers of each node are.
	peers map[string]peersOf
	// zones counts the nodes by zone; those of no known zone are not in it.
	zones     map[string]int
	announcer map[string]*announcer
	// reports counts those of all announcers.
	reports uint64
	sight   Sight
	secret  []byte
	health  announcement.Health
	pacing  announcement.Pacing
	// drainOnCordon says that cordoned nodes are reluctant.
	drainOnCordon bool
	sessions      sessions
	// maxMoves is how many addresses may move a minute for the sake of balance; 0 is none.
	maxMoves    int
	rebalancing rebalancing
	// departing are the nodes that were deleted while their announcers have a stream.
	departing map[string]*departure
	probing   probing
	conflicts conflicts
	// withdrawing are the addresses that nobody holds any more with the nodes that may
	// still answer for them.
	withdrawing map[netip.Addr][]string
	// unrouting are the same for nodes that may still announce them by BGP.
	unrouting map[netip.Addr][]string
	// freed is set when an address becomes available, to share or to hold; see Freed.
	freed bool
	// concerned are the UIDs that Concerned returns next.
	concerned map[string]bool
	plan      plan
}

// service is a Service with what became of its last request.
type service struct {
	Service
	result  ipam.Result
	refusal *ipam.Refusal
}

// New returns an empty Balancer that plans under term 0.
func New() *Balancer {
	return &Balancer{
		addresses:   ipam.New(),
		l2:          map[string]L2{},
		services:    map[string]*service{},
		uids:        map[string]map[string]bool{},
		endpoints:   map[string]Endpoints{},
		nodes:       map[string]Node{},
		peers:       map[string]peersOf{},
		zones:       map[string]int{},
		announcer:   map[string]*announcer{},
		sessions:    newSessions(),
		rebalancing: newRebalancing(),
		departing:   map[string]*departure{},
		probing:     newProbing(),
		conflicts:   newConflicts(),
		withdrawing: map[netip.Addr][]string{},
		unrouting:   map[netip.Addr][]string{},
		concerned:   map[string]bool{},
		plan:        newPlan(),
	}
}

// Configure replaces the configuration; call Retry afterwards. The error is a
// *ipam.StrandedError, and then nothing is changed.
func (b *Balancer) Configure(config Config) error {
	if err := b.addresses.Configure(config.Config); err != nil {
		return err
	}
	b.l2, b.maxMoves = config.L2, config.MaxMovesPerMinute
	b.setRouters(config.BGP.addresses())
	b.bgp, b.order = config.BGP, map[string]int{}
	for _, all := range b.bgp.Pools {
		for i, a := range all {
			b.order[a.Name] = i
		}
	}
	for _, n := range b.nodes {
		b.meet(n)
	}
	b.plan.moved = true // a selector makes neighbours
	b.plan.routing.renew = true
	if b.sight != config.Sight || b.health != config.Health || b.pacing != config.Announce {
		b.sight, b.health, b.pacing = config.Sight, config.Health, config.Announce
		b.watchAll()
	}
	b.drainOnCordon = config.DrainOnCordon
	b.probing.configure(config)
	b.conflicts.renew = true
	b.plan.allDirty()
	return nil
}

// Restore takes over what the Services' status says, and which of them, by UID, have
// shared their address. It is called once, with all Services, before the first Ensure.
func (b *Balancer) Restore(services []Service, shared map[string]bool) []ipam.Finding {
	records := make([]ipam.Record, 0, len(services))
	for _, s := range services {
		rec := ipam.Record{Request: s.Request, Addresses: s.Published, Shared: shared[s.Holder.UID]}
		records = append(records, rec)
		b.add(&service{Service: s})
	}
	findings := b.addresses.Restore(records)
	b.conflicts.renew = true
	b.plan.allDirty()
	return findings
}

// Ensure gives the Service its addresses, or takes over what it says now. The error is
// a *ipam.Refusal or nil; what the Service holds stays in either case.
func (b *Balancer) Ensure(s Service, now time.Time) error {
	known, ok := b.services[s.Holder.UID]
	if !ok {
		known = &service{}
	}
	// What was published stays so in memory: the object may be older than our patch.
	for _, p := range known.Published {
		if !slices.Contains(s.Published, p) {
			s.Published = append(s.Published, p)
		}
	}
	if ok && len(known.result.Assignments) > 0 && !known.Sharing.Equal(s.Sharing) {
		b.freed = true // others may be able to share its address now
		b.concern(s.Holder.UID, known.result.Assignments)
	}
	known.Service = s
	b.add(known)
	return b.assign(known, now)
}

func (b *Balancer) assign(s *service, now time.Time) error {
	before := b.addresses.Held(s.Holder.UID)
	result, err := b.addresses.Assign(s.Request, now)
	s.result, s.refusal = result, nil
	if err != nil {
		s.refusal = err.(*ipam.Refusal) //nolint:errorlint // Assign's documented error type
	}
	s.Published = published(s.Published, result.Assignments)
	if !slices.Equal(before, b.addresses.Held(s.Holder.UID)) {
		b.concern(s.Holder.UID, before)
		b.concern(s.Holder.UID, result.Assignments)
		b.probeLate(before, result.Assignments)
	}
	for _, a := range before {
		b.plan.touch(a.Address)
		b.conflicts.touch(a.Address)
	}
	for _, a := range result.Assignments {
		b.plan.touch(a.Address)
		b.conflicts.touch(a.Address)
		b.endWithdrawal(a.Address)
	}
	b.freed = b.freed || len(result.Freed) > 0 || s.Sharing.Key != "" && gained(before, result.Assignments)
	b.startWithdrawals(result.Freed)
	return err
}

// concern notes the other holders of what a Service holds, or held: whom they share it
// with, or whether they clash, may have changed.
func (b *Balancer) concern(uid string, assignments []ipam.Assignment) {
	for _, a := range assignments {
		for _, h := range b.addresses.Holders(a.Address) {
			if h.UID != uid {
				b.concerned[h.UID] = true
			}
		}
	}
}

// Concerned returns the UIDs of the Services of which something may have to be said
// because of what others who share their address did, and forgets them.
func (b *Balancer) Concerned() []string {
	out := slices.Sorted(maps.Keys(b.concerned))
	clear(b.concerned)
	return out
}

func gained(before, after []ipam.Assignment) bool {
	return slices.ContainsFunc(after, func(a ipam.Assignment) bool { return !slices.Contains(before, a) })
}

// published returns what of the addresses that a Service holds now belongs into a status
// that held the addresses before. An address that was there is replaced by the new one of
// its family at once, before a node has acknowledged it: DNS records follow the status.
func published(before []netip.Addr, held []ipam.Assignment) []netip.Addr {
	var out []netip.Addr
	lost := map[ipam.Family]bool{}
	for _, p := range before {
		if slices.ContainsFunc(held, func(a ipam.Assignment) bool { return a.Address == p }) {
			out = append(out, p)
		} else {
			lost[ipam.FamilyOf(p)] = true
		}
	}
	emptied := len(before) > 0 && len(out) == 0
	for _, a := range held {
		if (emptied || lost[ipam.FamilyOf(a.Address)]) && !slices.Contains(out, a.Address) {
			out = append(out, a.Address)
		}
	}
	return out
}

// Release forgets the Service and frees what it holds. Releasing what is unknown does
// nothing.
func (b *Balancer) Release(uid string, now time.Time) {
	s, ok := b.services[uid]
	if !ok {
		return
	}
	b.remove(s)
	held := b.addresses.Held(uid)
	freed := b.addresses.Release(uid, now)
	b.concern(uid, held)
	b.freed = b.freed || len(freed) > 0
	for _, address := range freed {
		b.plan.touch(address)
		b.conflicts.touch(address)
	}
	b.startWithdrawals(freed)
}

// Retry asks again for every Service that lacks an address, the oldest first, and
// returns the UIDs of those for which something changed. Call it when an address may
// have become free.
func (b *Balancer) Retry(now time.Time) []string {
	var waiting []*service
	for _, s := range b.services {
		if s.refusal != nil || s.result.Missing != nil {
			waiting = append(waiting, s)
		}
	}
	slices.SortFunc(waiting, func(x, y *service) int { return x.Holder.Compare(y.Holder) })
	var changed []string
	for _, s := range waiting {
		before := s.result.Assignments
		_ = b.assign(s, now) // the refusal is kept in s
		if !slices.Equal(before, s.result.Assignments) {
			changed = append(changed, s.Holder.UID)
		}
	}
	return changed
}

// Reassign asks again for every Service, after a new configuration, and returns the
// UIDs of all.
func (b *Balancer) Reassign(now time.Time) []string {
	all := slices.SortedFunc(maps.Values(b.services), func(x, y *service) int { return x.Holder.Compare(y.Holder) })
	uids := make([]string, 0, len(all))
	for _, s := range all {
		_ = b.assign(s, now) // the refusal is kept in s
		uids = append(uids, s.Holder.UID)
	}
	return uids
}

// Freed reports whether an address has become available since it was last asked, so that
// Retry may find something.
func (b *Balancer) Freed() bool {
	freed := b.freed
	b.freed = false
	return freed
}

// UIDs returns the UIDs of the Services known under that key, sorted.
func (b *Balancer) UIDs(key string) []string { return slices.Sorted(maps.Keys(b.uids[key])) }

func (b *Balancer) add(s *service) {
	b.services[s.Holder.UID] = s
	if b.uids[s.Key()] == nil {
		b.uids[s.Key()] = map[string]bool{}
	}
	b.uids[s.Key()][s.Holder.UID] = true
}

func (b *Balancer) remove(s *service) {
	delete(b.services, s.Holder.UID)
	delete(b.uids[s.Key()], s.Holder.UID)
	if len(b.uids[s.Key()]) == 0 {
		delete(b.uids, s.Key())
	}
}

// SetEndpoints takes over where the Service with that key ("namespace/name") can be
// reached; the zero Endpoints where it has none. It reports whether that is news for an
// address that is held.
func (b *Balancer) SetEndpoints(key string, e Endpoints) (concerned bool) {
	if b.endpoints[key].equal(e) {
		return false
	}
	if e.equal(Endpoints{}) {
		delete(b.endpoints, key)
	} else {
		b.endpoints[key] = e
	}
	for uid := range b.uids[key] {
		for _, a := range b.addresses.Held(uid) {
			b.plan.touch(a.Address)
			concerned = true
		}
	}
	return concerned
}
