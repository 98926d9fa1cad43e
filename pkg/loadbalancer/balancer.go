package loadbalancer

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
)

// Balancer is the core. The zero value is not usable; call New. It is not safe for
// concurrent use.
type Balancer struct {
	addresses *ipam.Allocator
	// servesUnclassed and classes say which Services the configuration serves.
	servesUnclassed bool
	classes         []string
	l2              map[string]L2
	bgp             BGP
	// order holds the places of advertisements, by name, among those of their pool.
	order    map[string]int
	services map[string]*service        // by UID
	uids     map[string]map[string]bool // by key; two while a Service is made anew
	// released are the keys, by UID, of Services that are in uids but not in services: they
	// held nothing at the start, and their status showed addresses.
	released  map[string]string
	endpoints map[string]Endpoints
	nodes     map[string]Node
	// peers are the routers that each node peers with.
	peers   map[string]peersOf
	rollout peerRollout
	// zones counts the nodes by zone; those of no known zone are not in it.
	zones map[string]int
	// segments are what nodes have on-link.
	segments  segments
	announcer map[string]*announcer
	// reports counts those of all announcers.
	reports  uint64
	failover Failover
	secret   []byte
	health   plan.Health
	pacing   plan.Pacing
	// drainOnCordon reports whether cordoned nodes are drained.
	drainOnCordon bool
	sessions      sessions
	// maxMoves is how many addresses may move a minute for the sake of balance; 0 is none.
	maxMoves    int
	rebalancing rebalancing
	// departing are the nodes that were deleted while their announcers have a stream.
	departing map[string]*departure
	probing   probing
	conflicts conflicts
	// withdrawing are the addresses that lost their last holder, with the nodes that may
	// still answer for them.
	withdrawing map[netip.Addr][]string
	// withdrawingRoutes are the same for nodes that may still announce them by BGP.
	withdrawingRoutes map[netip.Addr][]string
	waiting           waitlist
	// offers are what has become available since the last call of Freed, and ready is what
	// Retry looks at next.
	offers, ready offers
	// asked counts the requests that were decided.
	asked uint64
	// concerned are the UIDs that Concerned returns next.
	concerned map[string]bool
	plan      planState
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
		addresses:         ipam.New(),
		l2:                map[string]L2{},
		services:          map[string]*service{},
		uids:              map[string]map[string]bool{},
		released:          map[string]string{},
		endpoints:         map[string]Endpoints{},
		nodes:             map[string]Node{},
		peers:             map[string]peersOf{},
		rollout:           peerRollout{waiting: map[string]bool{}},
		zones:             map[string]int{},
		segments:          newSegments(),
		announcer:         map[string]*announcer{},
		sessions:          newSessions(),
		rebalancing:       newRebalancing(),
		departing:         map[string]*departure{},
		probing:           newProbing(),
		conflicts:         newConflicts(),
		withdrawing:       map[netip.Addr][]string{},
		withdrawingRoutes: map[netip.Addr][]string{},
		concerned:         map[string]bool{},
		plan:              newPlanState(),
		waiting:           newWaitlist(),
		offers:            newOffers(),
		ready:             newOffers(),
	}
}

// Configure replaces the configuration; call Reassign afterwards, or Retry. The error is a
// *ipam.StrandedError or a *StrandedClassError, and then nothing is changed.
func (b *Balancer) Configure(config Config) error {
	if err := b.strandedByClass(config); err != nil {
		return err
	}
	if err := b.addresses.Configure(config.Config); err != nil {
		return err
	}
	b.servesUnclassed, b.classes = config.ServicesWithoutClass, config.Classes
	b.offers.all = true
	b.l2, b.maxMoves = config.L2, config.MaxMovesPerMinute
	b.setRouters(config.BGP.routerAddresses())
	b.bgp, b.order = config.BGP, map[string]int{}
	for _, all := range b.bgp.Pools {
		for i, a := range all {
			b.order[a.Name] = i
		}
	}
	for _, n := range b.nodes {
		b.setPeers(n)
	}
	b.plan.meshDirty = true // a selector makes neighbours
	b.plan.routing.renew = true
	if b.failover != config.Failover || b.health != config.Health || b.pacing != config.Announce {
		b.failover, b.health, b.pacing = config.Failover, config.Health, config.Announce
		b.markAllWatches()
	}
	b.drainOnCordon = config.DrainOnCordon
	b.probing.setDuties(config)
	b.conflicts.renew = true
	b.plan.markAllDirty()
	return nil
}

// Restore takes over what the Services' status says, and which of them, by UID, have
// shared their address. It is called once, with all Services, before the first Ensure.
// Those of released hold nothing, but their status shows addresses still.
func (b *Balancer) Restore(services []Service, shared map[string]bool, released ...Service) []ipam.Finding {
	records := make([]ipam.Record, 0, len(services))
	for _, s := range services {
		rec := ipam.Record{Request: s.Request, Addresses: s.Published, Shared: shared[s.Holder.UID]}
		records = append(records, rec)
		b.addService(&service{Service: s})
	}
	findings := b.addresses.Restore(records)
	for _, s := range released {
		b.released[s.Holder.UID] = s.Key()
		b.addUID(s.Key(), s.Holder.UID)
	}
	for _, s := range slices.Concat(services, released) {
		b.keepShown(s.Holder, s.Published)
	}
	b.conflicts.renew = true
	b.plan.markAllDirty()
	return findings
}

// Adopt takes over, as Ensure does, what the status shows of Services that are not known yet,
// of all of them before the first is given anything else: call Reassign afterwards.
func (b *Balancer) Adopt(services []Service) {
	services = slices.DeleteFunc(slices.Clone(services), func(s Service) bool { return b.services[s.Holder.UID] != nil })
	slices.SortFunc(services, func(x, y Service) int { return x.Holder.Compare(y.Holder) })
	for _, s := range services {
		b.addresses.Adopt(ipam.Record{Request: s.Request, Addresses: b.adoptableOf(s.Published)})
		b.addService(&service{Service: s})
	}
	for _, s := range services {
		b.keepShown(s.Holder, s.Published)
	}
}

// Ensure gives the Service its addresses, or takes over what it says now. The error is
// a *ipam.Refusal or nil; what the Service holds stays in either case. What the status of a
// Service shows that was unknown until now is adopted, if it is free and the rules admit it:
// another controller may have served it before.
func (b *Balancer) Ensure(s Service, now time.Time) error {
	known, ok := b.services[s.Holder.UID]
	before, shown := b.addresses.Held(s.Holder.UID), s.Published
	if ok {
		shown = known.Published
	} else {
		known = &service{}
		b.addresses.Adopt(ipam.Record{Request: s.Request, Addresses: b.adoptableOf(s.Published)})
	}
	// What was published stays so in memory: the object may be older than our patch.
	for _, p := range known.Published {
		if !slices.Contains(s.Published, p) {
			s.Published = append(s.Published, p)
		}
	}
	if ok && len(known.result.Assignments) > 0 && !known.Sharing.Equal(s.Sharing) {
		// Others may be able to share its address now.
		b.offerKey(known.Sharing.Key)
		b.offerKey(s.Sharing.Key)
		for _, a := range known.result.Assignments {
			b.offers.addresses[a.Address] = true
		}
		b.markHoldersDirty(s.Holder.UID, known.result.Assignments)
	}
	b.waiting.removeService(known) // it is listed by what it said
	known.Service = s
	b.addService(known)
	return b.assignShown(known, before, shown, now)
}

func (b *Balancer) assignAddresses(s *service, now time.Time) error {
	return b.assignShown(s, b.addresses.Held(s.Holder.UID), s.Published, now)
}

// assignShown asks for addresses for s, which held before. The status of s may show the
// addresses shown.
func (b *Balancer) assignShown(s *service, before []ipam.Assignment, shown []netip.Addr, now time.Time) error {
	b.asked++
	result, err := b.addresses.Assign(s.Request, now)
	s.result, s.refusal = result, nil
	if err != nil {
		s.refusal = err.(*ipam.Refusal) //nolint:errorlint // Assign's documented error type
	}
	s.Published = publishedOf(s.Published, result.Assignments)
	if !slices.Equal(before, b.addresses.Held(s.Holder.UID)) {
		b.markHoldersDirty(s.Holder.UID, before)
		b.markHoldersDirty(s.Holder.UID, result.Assignments)
		b.probeLate(before, result.Assignments)
	}
	for _, a := range before {
		b.plan.markDirty(a.Address)
		b.conflicts.markDirty(a.Address)
	}
	for _, a := range result.Assignments {
		b.plan.markDirty(a.Address)
		b.conflicts.markDirty(a.Address)
		b.endWithdrawal(a.Address)
	}
	b.offerFreed(s, result.Freed)
	if gainedAddress(before, result.Assignments) {
		b.offerKey(s.Sharing.Key)
	}
	b.startWithdrawals(result.Freed)
	b.keepShown(s.Holder, shown)
	b.waiting.updateService(s)
	return err
}

// markHoldersDirty notes the other holders of what a Service holds, or held: the Services that
// they share it with, or whether they clash, may have changed.
func (b *Balancer) markHoldersDirty(uid string, assignments []ipam.Assignment) {
	for _, a := range assignments {
		for _, h := range b.addresses.Holders(a.Address) {
			if h.UID != uid {
				b.concerned[h.UID] = true
			}
		}
	}
}

// Concerned returns the UIDs of the Services of which something may have to be said because
// of what other Services that share their address did, and forgets them.
func (b *Balancer) Concerned() []string {
	out := slices.Sorted(maps.Keys(b.concerned))
	clear(b.concerned)
	return out
}

func gainedAddress(before, after []ipam.Assignment) bool {
	return slices.ContainsFunc(after, func(a ipam.Assignment) bool { return !slices.Contains(before, a) })
}

// publishedOf returns what of the addresses that a Service holds now belongs into a status
// that held the addresses before. An address that was there is replaced by the new one of
// its family at once, before a node has acknowledged it: DNS records follow the status.
func publishedOf(before []netip.Addr, held []ipam.Assignment) []netip.Addr {
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

// Release forgets the Service and frees what it holds. It is called when the Service is gone
// or its status shows no address of ours. Releasing what is unknown does nothing.
func (b *Balancer) Release(uid string, now time.Time) {
	b.StatusShows(uid, nil)
	if key, ok := b.released[uid]; ok {
		delete(b.released, uid)
		b.removeUID(key, uid)
	}
	s, ok := b.services[uid]
	if !ok {
		return
	}
	b.removeService(s)
	held := b.addresses.Held(uid)
	freed := b.addresses.Release(uid, now)
	b.markHoldersDirty(uid, held)
	b.offerFreed(s, freed)
	b.waiting.removeService(s)
	for _, address := range freed {
		b.plan.markDirty(address)
		b.conflicts.markDirty(address)
	}
	b.startWithdrawals(freed)
}

// Reassign asks again for every Service, after a new configuration, and returns the
// UIDs of all.
func (b *Balancer) Reassign(now time.Time) []string {
	b.offers.all = false
	all := slices.SortedFunc(maps.Values(b.services), func(x, y *service) int { return x.Holder.Compare(y.Holder) })
	uids := make([]string, 0, len(all))
	for _, s := range all {
		_ = b.assignAddresses(s, now) // the refusal is kept in s
		uids = append(uids, s.Holder.UID)
	}
	return uids
}

// UIDs returns the UIDs of the Services known under that key, sorted.
func (b *Balancer) UIDs(key string) []string { return slices.Sorted(maps.Keys(b.uids[key])) }

func (b *Balancer) addService(s *service) {
	b.services[s.Holder.UID] = s
	delete(b.released, s.Holder.UID)
	b.addUID(s.Key(), s.Holder.UID)
}

func (b *Balancer) addUID(key, uid string) {
	if b.uids[key] == nil {
		b.uids[key] = map[string]bool{}
	}
	b.uids[key][uid] = true
}

func (b *Balancer) removeService(s *service) {
	delete(b.services, s.Holder.UID)
	b.removeUID(s.Key(), s.Holder.UID)
}

func (b *Balancer) removeUID(key, uid string) {
	delete(b.uids[key], uid)
	if len(b.uids[key]) == 0 {
		delete(b.uids, key)
	}
}

// SetEndpoints takes over where the Service with that key ("namespace/name") can be
// reached; the zero Endpoints where it has none. It reports whether that is news for an
// address that is held.
func (b *Balancer) SetEndpoints(key string, e Endpoints) (concerned bool) {
	if b.endpoints[key].equalEndpoints(e) {
		return false
	}
	if e.equalEndpoints(Endpoints{}) {
		delete(b.endpoints, key)
	} else {
		b.endpoints[key] = e
	}
	for uid := range b.uids[key] {
		for _, a := range b.addresses.Held(uid) {
			b.plan.markDirty(a.Address)
			concerned = true
		}
	}
	return concerned
}
