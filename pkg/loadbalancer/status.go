package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// Verdict is a condition of a Service: whether it holds, why, and a sentence.
type Verdict struct {
	OK      bool
	Reason  reason.Reason
	Message string
	// by names in Message the nodes that announce, so that the addresses of the same nodes
	// are listed once; "" where the Message says anything else.
	by string
}

// answeredBy reports whether nodes, named in by, announce address.
func answeredBy(by string, address netip.Addr) Verdict {
	return Verdict{OK: true, Reason: reason.Announced, Message: fmt.Sprintf("%s: %s", by, address), by: by}
}

// Status is how a Service fares.
type Status struct {
	// Held are the addresses that it holds, in the order of its families.
	Held []ipam.Assignment
	// Published are those that belong into its status, in the same order.
	Published []netip.Addr
	// Allocated and Announced are the two conditions.
	Allocated, Announced Verdict
	// Owners are, by address, the node that acknowledged answering for it.
	Owners  map[netip.Addr]string
	Clashes []ipam.Clash
	// Yielding are the addresses on which an older Service uses one of its ports: there the
	// older one should be served and this one not.
	Yielding []netip.Addr
	// Shared reports whether others hold one of its addresses too.
	Shared bool
}

// Status returns how the Service with that UID fares, and notes that what it returns as
// Published is published from now on. ok is false for an unknown Service.
func (b *Balancer) Status(uid string) (_ Status, ok bool) {
	s, ok := b.services[uid]
	if !ok {
		return Status{}, false
	}
	out := Status{
		Held:      s.result.Assignments,
		Allocated: b.allocatedVerdict(s),
		Owners:    map[netip.Addr]string{},
		Clashes:   b.addresses.Clashes(uid),
		Shared:    b.isShared(s),
	}
	for _, c := range out.Clashes {
		if s.yieldsTo(c) && !slices.Contains(out.Yielding, c.Address) {
			out.Yielding = append(out.Yielding, c.Address)
		}
	}
	out.Announced = Verdict{Reason: reason.NothingAllocated, Message: "the Service has no address to announce"}
	for _, a := range out.Held {
		verdict, node := b.announcedVerdict(a)
		if node != "" {
			out.Owners[a.Address] = node
		}
		out.Announced = worseVerdict(out.Announced, verdict)
		if slices.Contains(s.Published, a.Address) || verdict.Reason != reason.WaitingForAnnouncer {
			out.Published = append(out.Published, a.Address)
		}
	}
	s.Published = out.Published
	return out, true
}

// allocatedVerdict is the condition of the Service's addresses.
func (b *Balancer) allocatedVerdict(s *service) Verdict {
	clashes := b.addresses.Clashes(s.Holder.UID)
	switch {
	case s.refusal != nil:
		return Verdict{Reason: s.refusal.Reason, Message: s.refusal.Message + s.keptText()}
	case len(clashes) > 0:
		return s.clashVerdict(clashes)
	case slices.ContainsFunc(s.result.Assignments, func(a ipam.Assignment) bool { return a.Pool == "" }):
		return Verdict{OK: true, Reason: reason.AddressOutsidePools, Message: "kept, but not announced, because no pool contains it: " + listAssignments(s.result.Assignments)}
	case s.result.Missing != nil:
		return Verdict{OK: true, Reason: reason.PartiallyAllocated, Message: listAssignments(s.result.Assignments) + "; " + s.result.Missing.Message}
	}
	return Verdict{OK: true, Reason: reason.Allocated, Message: listAssignments(s.result.Assignments)}
}

// yieldsTo reports whether the other Service of a clash is served in place of s.
func (s *service) yieldsTo(c ipam.Clash) bool { return c.SamePort && c.With.Compare(s.Holder) < 0 }

// clashVerdict is the condition of a Service that breaks the sharing rule.
func (s *service) clashVerdict(clashes []ipam.Clash) Verdict {
	if slices.ContainsFunc(clashes, func(c ipam.Clash) bool { return !c.KeyMissing }) {
		return Verdict{OK: true, Reason: reason.SharingClash, Message: s.clashText(clashes)}
	}
	c := clashes[0]
	with := "another Service"
	if c.With.Namespace == s.Holder.Namespace {
		with = "Service " + c.With.String()
	}
	return Verdict{OK: true, Reason: reason.SharingKeyMissing, Message: fmt.Sprintf(
		"%s; %s is shared with %s without a key: annotate both with baremetal.cloud/sharing-key: %s", listAssignments(s.result.Assignments), c.Address, with, reason.Quote(c.Key))}
}

// clashText says with which Service s clashes and which one is served: of several others
// one to which s yields.
func (s *service) clashText(clashes []ipam.Clash) string {
	c := clashes[max(0, slices.IndexFunc(clashes, s.yieldsTo))]
	with := "another Service"
	if c.With.Namespace == s.Holder.Namespace {
		with = "Service " + c.With.String()
	}
	served := "both are served, as their ports differ"
	switch {
	case s.yieldsTo(c):
		served = "that one is older and is served there, this one is not"
	case c.SamePort:
		served = "this one is older and is served there, the other one is not"
	}
	return fmt.Sprintf("address %s is kept although it clashes with %s: %s; %s", c.Address, with, c.Why, served)
}

func (b *Balancer) isShared(s *service) bool {
	return slices.ContainsFunc(s.result.Assignments, func(a ipam.Assignment) bool { return len(b.addresses.Holders(a.Address)) > 1 })
}

func (s *service) keptText() string {
	if len(s.result.Assignments) == 0 {
		return ""
	}
	return "; the Service keeps " + listAssignments(s.result.Assignments)
}

// listAssignments prints "192.0.2.1 from pool default, …".
func listAssignments(assignments []ipam.Assignment) string {
	parts := make([]string, 0, len(assignments))
	for _, a := range assignments {
		if a.Pool == "" {
			parts = append(parts, a.Address.String())
			continue
		}
		parts = append(parts, fmt.Sprintf("%s from pool %s", a.Address, a.Pool))
	}
	return strings.Join(parts, ", ")
}

// announcedVerdict says whether an address is announced in each way that its pool asks for, and on
// layer 2 by which node.
func (b *Balancer) announcedVerdict(a ipam.Assignment) (Verdict, string) {
	_, l2 := b.l2[a.Pool]
	switch {
	case a.Pool == "":
		return Verdict{Reason: reason.AddressOutsidePools, Message: fmt.Sprintf("address %s is in no pool and is not announced", a.Address)}, ""
	case len(b.bgp.Pools[a.Pool]) == 0:
		verdict, node := b.ownerVerdict(a)
		return b.contestedVerdict(a.Address, verdict), node
	case !l2:
		return b.routeVerdict(a.Address), ""
	}
	verdict, node := b.ownerVerdict(a)
	verdict = worseVerdict(verdict, b.routeVerdict(a.Address))
	return b.contestedVerdict(a.Address, verdict), node
}

// ownerVerdict says whether a node answers for an address on layer 2, and which.
func (b *Balancer) ownerVerdict(a ipam.Assignment) (Verdict, string) {
	list, ok := b.plan.lists[a.Address]
	if !ok {
		verdict, decided := b.plan.unplaced[a.Address]
		// A plan that is older than the first endpoint says nothing of it.
		if decided && !(verdict.Reason == reason.NoEndpoints && b.hasEndpoint(a.Address, ipam.FamilyOf(a.Address))) {
			return verdict, ""
		}
		return Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("address %s waits to be placed on a node", a.Address)}, ""
	}
	if name := b.acknowledgedOwner(list); name != "" {
		verdict := answeredBy("answered by "+name, a.Address)
		if stuck := b.drainingReason(list); stuck != "" {
			verdict.Message, verdict.by = verdict.Message+stuck, ""
		}
		return verdict, name
	}
	owner := list.Candidates[0]
	if known, heard := b.announcer[owner]; heard {
		if p, ok := findProblem(known.report, a.Address); ok && known.report.Plan.Compare(list.Version) >= 0 && !b.backupTakesOver(list) {
			return Verdict{Reason: p.Reason, Message: fmt.Sprintf("node %s was told to answer for %s and cannot: %s", owner, a.Address, p.Message)}, ""
		}
	}
	return Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("node %s was told to answer for %s and has not acknowledged it yet", owner, a.Address)}, ""
}

// backupTakesOver reports whether a backup is about to take over from an owner that cannot answer.
// That is a move: no condition tells of it.
func (b *Balancer) backupTakesOver(list plan.Assignment) bool {
	return b.failoverOn() && slices.ContainsFunc(list.Candidates[1:], func(name string) bool {
		return b.isConnected(name) && !b.isUnable(name, list.Address)
	})
}

// acknowledgedOwner returns the candidate of list that claims its address, or "".
func (b *Balancer) acknowledgedOwner(list plan.Assignment) string {
	for _, name := range list.Candidates {
		if claim, ok := b.claimOf(name, list.Address); ok && claim.Version.Compare(b.plan.acknowledgedFrom[list.Address]) >= 0 {
			return name
		}
	}
	return ""
}

// UnderReplicated counts the addresses that have fewer backups than there are nodes for, because nodes
// would have to watch too many others (reason.PeerLimitReached). No condition says so: a
// node that dies leaves many addresses short at once.
func (b *Balancer) UnderReplicated() int { return len(b.plan.underReplicated) }

func findProblem(report plan.Report, address netip.Addr) (plan.Problem, bool) {
	for _, p := range report.Problems {
		if p.Address == address {
			return p, true
		}
	}
	return plan.Problem{}, false
}

// worseVerdict merges the verdicts of two addresses of one Service. What does not hold comes first,
// and of that what lasts: an address that moves while another has no endpoints changes
// nothing. What is so of both is said of both.
func worseVerdict(x, y Verdict) Verdict {
	passes := func(v Verdict) bool { return v.OK || v.Reason == reason.WaitingForAnnouncer }
	switch {
	case x.Reason == reason.NothingAllocated:
		return y
	case !passes(x) && !passes(y):
		return Verdict{Reason: x.Reason, Message: x.Message + "; " + y.Message}
	case !passes(x):
		return x
	case !passes(y):
		return y
	case !x.OK:
		return x
	case !y.OK:
		return y
	}
	why := y.Reason
	if why == reason.Announced {
		why = x.Reason // another one says more
	}
	if x.by != "" && x.by == y.by {
		return Verdict{OK: true, Reason: why, Message: x.Message + ", " + strings.TrimPrefix(y.Message, y.by+": "), by: x.by}
	}
	return Verdict{OK: true, Reason: why, Message: x.Message + "; " + y.Message}
}

// Usage returns the fill of the pools.
func (b *Balancer) Usage() []ipam.Usage { return b.addresses.Usage() }

// Reasons counts the Services by the reason of their allocation.
func (b *Balancer) Reasons() map[reason.Reason]int {
	out := map[reason.Reason]int{}
	for _, s := range b.services {
		out[b.allocatedVerdict(s).Reason]++
	}
	return out
}

// HoldersOf returns the UIDs of the Services that hold address.
func (b *Balancer) HoldersOf(address netip.Addr) []string {
	var out []string
	for _, h := range b.addresses.Holders(address) {
		out = append(out, h.UID)
	}
	return out
}
