package loadbalancer

import (
	"maps"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// plan is what was last decided, and what has to be decided again.
type plan struct {
	cluster string
	stamp   announcement.Stamp
	// lists are the candidate lists by address; only those with candidates.
	lists map[netip.Addr]announcement.Announcement
	// given are, by address with a list, the stamps from which on a claim of a candidate is
	// an acknowledgement: that of the list that it first got, or the zero Stamp where a node
	// claimed the address already.
	given map[netip.Addr]announcement.Stamp
	// members are the addresses whose lists name a node.
	members map[string]map[netip.Addr]bool
	// owned counts, by node, the lists that name it first.
	owned map[string]int
	// sets are the nodes' plans; a node's set keeps its stamp while it says the same.
	sets map[string]announcement.Set
	// handed is the copy of sets that Plan returned last; nil where sets changed since.
	handed map[string]announcement.Set
	// dirty are the addresses to decide again; everything is when all is set.
	dirty map[netip.Addr]bool
	all   bool
	// nobody says of held addresses without a list why no node may answer for them.
	nobody map[netip.Addr]Verdict
	// wanting are the addresses that another node would be of use for, and uniform those
	// whose backups are all in the owner's zone.
	wanting, uniform map[netip.Addr]bool
	// short are the addresses that have fewer backups than they could have because a node
	// would have to watch too many others.
	short map[netip.Addr]bool
	// unmixed are those of uniform that are so because a node would have to watch too many.
	unmixed map[netip.Addr]bool
	// stuck are the addresses whose owner is to give them up and keeps them, because no other
	// node may take them.
	stuck map[netip.Addr]bool
	// contested are the addresses that another candidate than the owner claims.
	contested map[netip.Addr]bool
	// leaving are the addresses that a node hands over to the owner, which it hears, with
	// that node.
	leaving map[netip.Addr]string
	// withdrawn are the addresses that wait for a node to stop answering for them, with
	// that node. They have no list.
	withdrawn map[netip.Addr]string
	// provers make proofs, by the node that checks them.
	provers map[string]*announcement.Prover
	// sights says how each node watches whom.
	sights map[string]announcement.Sight
	// moved says that the neighbourhoods of nodes are to be looked at again.
	moved bool
	// decided are the addresses whose verdict a decision may have changed; see Decided.
	decided map[netip.Addr]bool
	// routing is what nodes say to routers.
	routing routing
}

// rounds is how many times Plan decides again what the decisions before gave reason for: a
// session has become free, or a node that a list does not name any more has no say. What
// is left then is for the next Plan.
const rounds = 4

func newPlan() plan {
	return plan{
		lists:   map[netip.Addr]announcement.Announcement{},
		given:   map[netip.Addr]announcement.Stamp{},
		members: map[string]map[netip.Addr]bool{},
		owned:   map[string]int{},
		sets:    map[string]announcement.Set{},
		dirty:   map[netip.Addr]bool{},
		all:     true,
		nobody:  map[netip.Addr]Verdict{},
		decided: map[netip.Addr]bool{},

		wanting:   map[netip.Addr]bool{},
		uniform:   map[netip.Addr]bool{},
		short:     map[netip.Addr]bool{},
		unmixed:   map[netip.Addr]bool{},
		stuck:     map[netip.Addr]bool{},
		contested: map[netip.Addr]bool{},
		leaving:   map[netip.Addr]string{},
		withdrawn: map[netip.Addr]string{},
		provers:   map[string]*announcement.Prover{},
		sights:    map[string]announcement.Sight{},
		moved:     true,
		routing:   newRouting(),
	}
}

func (p *plan) touch(address netip.Addr) { p.dirty[address] = true }
func (p *plan) allDirty()                { p.all = true }

// owner returns the node that is to answer for address, or "".
func (p *plan) owner(address netip.Addr) string {
	if list, ok := p.lists[address]; ok {
		return list.Candidates[0]
	}
	return ""
}

// SetLeader sets in whose name plans are made: the cluster's identity and the leader's
// term, which never falls. With a new term every list and plan gets a new stamp, so
// that it supersedes whatever another leader said before.
func (b *Balancer) SetLeader(cluster string, term uint64) {
	p := &b.plan
	if p.cluster == cluster && p.stamp.Term == term {
		return
	}
	if p.cluster != cluster {
		p.sights = map[string]announcement.Sight{} // the keys are of one cluster
		p.provers = map[string]*announcement.Prover{}
		b.watchAll()
	}
	p.cluster, p.stamp = cluster, announcement.Stamp{Term: term, Revision: 1}
	b.leadConflicts()
	for address, list := range p.lists {
		list.Stamp = p.stamp
		p.lists[address] = list
	}
	for address := range p.routing.given {
		p.routing.given[address] = announcement.Stamp{} // what a node announces already needs no acknowledgement
	}
	p.sets, p.handed = map[string]announcement.Set{}, nil
	p.allDirty()
}

// Plan decides what is to be decided and returns every node's whole plan. Nothing is
// decided twice: a node whose plan says the same keeps the same Set, and where all do the
// map is the one that was returned last. It is the caller's to read.
func (b *Balancer) Plan() map[string]announcement.Set {
	p := &b.plan
	next := announcement.Stamp{Term: p.stamp.Term, Revision: p.stamp.Revision + 1}
	changed, routes := changes{}, routeChanges{}
	b.settle()
	b.renewSessions(routes)
	for address := range p.withdrawn {
		p.touch(address) // few, and not for long
	}
	for range rounds {
		for _, address := range b.undecided() {
			b.decide(address, next, changed, routes)
		}
		b.lendSessions()
	}
	b.watch(changed)
	for name := range b.nodes {
		if _, ok := p.sets[name]; !ok {
			changed.also(name)
		}
	}
	for name := range routes {
		changed.also(name)
	}
	b.probe(next, changed)
	for name, addresses := range changed {
		slices.SortFunc(addresses, netip.Addr.Compare)
		set := b.set(name, next, slices.Compact(addresses))
		set.Health, set.Pacing = b.health, b.pacing
		set.BGP = b.said(name, routes[name])
		set.Probing = b.probing.of[name]
		p.sets[name] = set
	}
	for name := range p.sets {
		if _, ok := b.nodes[name]; !ok && len(p.members[name])+len(p.routing.routes[name]) == 0 {
			delete(p.sets, name)
			p.handed = nil
		}
	}
	if len(changed) > 0 {
		p.stamp, p.handed = next, nil
	}
	if p.handed == nil {
		// Of 1000 nodes this takes 3 % of what deciding one address does: BenchmarkEndpointAmongMany.
		p.handed = maps.Clone(p.sets)
	}
	return p.handed
}

// set makes the plan of one node from its last one and the addresses that changed since.
// With ten thousand addresses on a node, collecting all of them for each new Service would
// take most of a leader's time.
func (b *Balancer) set(name string, stamp announcement.Stamp, changed []netip.Addr) announcement.Set {
	p := &b.plan
	members := p.members[name]
	out := announcement.Set{Cluster: p.cluster, Stamp: stamp, Sight: p.sights[name]}
	last, ok := p.sets[name]
	if !ok {
		all := make([]announcement.Announcement, 0, len(members))
		for address := range members {
			all = append(all, b.proven(name, p.lists[address]))
		}
		out.Announcements = announcement.NewIndex(all...)
		return out
	}
	out.Announcements = last.Announcements
	for _, address := range changed {
		if members[address] {
			out.Announcements = out.Announcements.With(b.proven(name, p.lists[address]))
		} else {
			out.Announcements = out.Announcements.Without(address)
		}
	}
	return out
}
