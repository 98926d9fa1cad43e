package loadbalancer

import (
	"maps"
	"net/netip"
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// planState is what was last decided, and what needs another decision.
type planState struct {
	cluster string
	version plan.Version
	// lists are the candidate lists by address; only those with candidates.
	lists map[netip.Addr]plan.Assignment
	// acknowledgedFrom are, by address with a list, the versions from which on a claim of a candidate is
	// an acknowledgement: that of the list that it first got, or the zero Stamp where a node
	// claimed the address already.
	acknowledgedFrom map[netip.Addr]plan.Version
	// addressesByNode are, by node, the addresses with the node in their lists.
	addressesByNode map[string]map[netip.Addr]bool
	// owned counts, by node, the lists that name it first.
	owned map[string]int
	// sets are the nodes' plans; a node's set keeps its version while it says the same.
	sets map[string]plan.NodePlan
	// handed is the copy of sets that Plan returned last; nil where sets changed since.
	handed map[string]plan.NodePlan
	// dirty are the addresses to decide again; everything is when all is set.
	dirty map[netip.Addr]bool
	all   bool
	// unplaced says of held addresses without a list why no node may answer for them.
	unplaced map[netip.Addr]Verdict
	// wantsBackup are the addresses that another node would be of use for, and sameZone
	// those with all backups in the owner's zone.
	wantsBackup, sameZone map[netip.Addr]bool
	// underReplicated are the addresses that have fewer backups than they could have because a node
	// would have to watch too many others.
	underReplicated map[netip.Addr]bool
	// zoneForced are those of uniform that are so because a node would have to watch too many.
	zoneForced map[netip.Addr]bool
	// draining are the addresses that their owner should give up and keeps, because no other
	// node may take them.
	draining map[netip.Addr]bool
	// contested are the addresses that another candidate than the owner claims.
	contested map[netip.Addr]bool
	// handingOver are the addresses that a node hands over to the owner, which it hears, with
	// that node.
	handingOver map[netip.Addr]string
	// withdrawn are the addresses that wait for a node to stop answering for them, with
	// that node. They have no list.
	withdrawn map[netip.Addr]string
	// provers make proofs, by the node that checks them.
	provers map[string]*plan.Prover
	// peerSets are, by node, the peers that it watches, and how.
	peerSets map[string]plan.Failover
	// meshDirty reports whether to look at the neighbourhoods of nodes again.
	meshDirty bool
	// decided are the addresses for which a decision may have changed the verdict; see
	// Decided.
	decided map[netip.Addr]bool
	// routing is what nodes say to routers.
	routing routing
}

// rounds is how many times Plan decides again what the decisions before gave reason for: a
// session has become free, or a node that a list no longer names has no say. What is left
// then is for the next Plan.
const rounds = 4

func newPlanState() planState {
	return planState{
		lists:            map[netip.Addr]plan.Assignment{},
		acknowledgedFrom: map[netip.Addr]plan.Version{},
		addressesByNode:  map[string]map[netip.Addr]bool{},
		owned:            map[string]int{},
		sets:             map[string]plan.NodePlan{},
		dirty:            map[netip.Addr]bool{},
		all:              true,
		unplaced:         map[netip.Addr]Verdict{},
		decided:          map[netip.Addr]bool{},

		wantsBackup:     map[netip.Addr]bool{},
		sameZone:        map[netip.Addr]bool{},
		underReplicated: map[netip.Addr]bool{},
		zoneForced:      map[netip.Addr]bool{},
		draining:        map[netip.Addr]bool{},
		contested:       map[netip.Addr]bool{},
		handingOver:     map[netip.Addr]string{},
		withdrawn:       map[netip.Addr]string{},
		provers:         map[string]*plan.Prover{},
		peerSets:        map[string]plan.Failover{},
		meshDirty:       true,
		routing:         newRouting(),
	}
}

func (p *planState) markDirty(address netip.Addr) { p.dirty[address] = true }
func (p *planState) markAllDirty()                { p.all = true }

// ownerOf returns the node that owns address by the plan, or "".
func (p *planState) ownerOf(address netip.Addr) string {
	if list, ok := p.lists[address]; ok {
		return list.Candidates[0]
	}
	return ""
}

// SetLeader sets the name in which plans are made: the cluster's identity and the leader's
// term, which never falls. With a new term every list and plan gets a new version, so that
// it supersedes whatever another leader said before.
func (b *Balancer) SetLeader(cluster string, term uint64) {
	p := &b.plan
	if p.cluster == cluster && p.version.Term == term {
		return
	}
	if p.cluster != cluster {
		p.peerSets = map[string]plan.Failover{} // the keys are of one cluster
		p.provers = map[string]*plan.Prover{}
		b.markAllWatches()
	}
	p.cluster, p.version = cluster, plan.Version{Term: term, Revision: 1}
	b.leadConflicts()
	for address, list := range p.lists {
		list.Version = p.version
		p.lists[address] = list
	}
	for address := range p.routing.acknowledgedFrom {
		p.routing.acknowledgedFrom[address] = plan.Version{} // what a node announces already needs no acknowledgement
	}
	p.sets, p.handed = map[string]plan.NodePlan{}, nil
	p.markAllDirty()
}

// Plan decides what needs a decision and returns every node's whole plan. Nothing is
// decided twice: a node with an unchanged plan keeps the same Set, and where all plans are
// unchanged the map is the one that was returned last. It is the caller's to read.
func (b *Balancer) Plan() map[string]plan.NodePlan {
	p := &b.plan
	next := plan.Version{Term: p.version.Term, Revision: p.version.Revision + 1}
	changed, routes := changes{}, routeChanges{}
	b.refreshMesh()
	b.renewSessions(routes)
	for address := range p.withdrawn {
		p.markDirty(address) // few, and not for long
	}
	for range rounds {
		for _, address := range b.takeDirty() {
			b.placeAddress(address, next, changed, routes)
		}
		b.lendSessions()
	}
	b.planWatches(changed)
	for name := range b.nodes {
		if _, ok := p.sets[name]; !ok {
			changed.addNode(name)
		}
	}
	for name := range routes {
		changed.addNode(name)
	}
	b.planProbes(next, changed)
	for name, addresses := range changed {
		slices.SortFunc(addresses, netip.Addr.Compare)
		set := b.planFor(name, next, slices.Compact(addresses))
		set.Health, set.Pacing = b.health, b.pacing
		set.BGP = b.bgpOf(name, routes[name])
		set.Probing = b.probing.of[name]
		p.sets[name] = set
	}
	for name := range p.sets {
		if _, ok := b.nodes[name]; !ok && len(p.addressesByNode[name])+len(p.routing.routes[name]) == 0 {
			delete(p.sets, name)
			p.handed = nil
		}
	}
	if len(changed) > 0 {
		p.version, p.handed = next, nil
	}
	if p.handed == nil {
		// Of 1000 nodes this takes 3 % of what deciding one address does: BenchmarkEndpointAmongMany.
		p.handed = maps.Clone(p.sets)
	}
	return p.handed
}

// planFor makes the plan of one node from its last one and the addresses that changed since.
// With ten thousand addresses on a node, collecting all of them for each new Service would
// take most of a leader's time.
func (b *Balancer) planFor(name string, version plan.Version, changed []netip.Addr) plan.NodePlan {
	p := &b.plan
	members := p.addressesByNode[name]
	out := plan.NodePlan{Cluster: p.cluster, Version: version, Failover: p.peerSets[name]}
	last, ok := p.sets[name]
	if !ok {
		all := make([]plan.Assignment, 0, len(members))
		for address := range members {
			all = append(all, b.withProofs(name, p.lists[address]))
		}
		out.Assignments = plan.NewIndex(all...)
		return out
	}
	out.Assignments = last.Assignments
	for _, address := range changed {
		if members[address] {
			out.Assignments = out.Assignments.With(b.withProofs(name, p.lists[address]))
		} else {
			out.Assignments = out.Assignments.Without(address)
		}
	}
	return out
}
