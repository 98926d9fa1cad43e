package loadbalancer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
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

// answeredBy says that nodes, named in by, announce address.
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
	// Answering are, by address, the node that acknowledged answering for it.
	Answering map[netip.Addr]string
	Clashes   []ipam.Clash
	// Yielding are the addresses on which an older Service uses one of its ports: there
	// the older one is to be served and this one is not.
	Yielding []netip.Addr
	// Shared says that others hold one of its addresses too.
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
		Allocated: b.allocated(s),
		Answering: map[netip.Addr]string{},
		Clashes:   b.addresses.Clashes(uid),
		Shared:    b.shared(s),
	}
	for _, c := range out.Clashes {
		if s.yields(c) && !slices.Contains(out.Yielding, c.Address) {
			out.Yielding = append(out.Yielding, c.Address)
		}
	}
	out.Announced = Verdict{Reason: reason.NothingAllocated, Message: "the Service has no address to announce"}
	for _, a := range out.Held {
		verdict, node := b.announced(a)
		if node != "" {
			out.Answering[a.Address] = node
		}
		out.Announced = worse(out.Announced, verdict)
		if slices.Contains(s.Published, a.Address) || verdict.Reason != reason.WaitingForAnnouncer {
			out.Published = append(out.Published, a.Address)
		}
	}
	s.Published = out.Published
	return out, true
}

// allocated is the condition of the Service's addresses.
func (b *Balancer) allocated(s *service) Verdict {
	clashes := b.addresses.Clashes(s.Holder.UID)
	switch {
	case s.refusal != nil:
		return Verdict{Reason: s.refusal.Reason, Message: s.refusal.Message + s.keeps()}
	case len(clashes) > 0:
		return s.clashed(clashes)
	case slices.ContainsFunc(s.result.Assignments, func(a ipam.Assignment) bool { return a.Pool == "" }):
		return Verdict{OK: true, Reason: reason.AddressOutsidePools, Message: "kept, but not announced, because no pool contains it: " + list(s.result.Assignments)}
	case s.result.Missing != nil:
		return Verdict{OK: true, Reason: reason.AllocatedPartly, Message: list(s.result.Assignments) + "; " + s.result.Missing.Message}
	}
	return Verdict{OK: true, Reason: reason.Allocated, Message: list(s.result.Assignments)}
}

// yields reports whether the other Service of a clash is served in place of s.
func (s *service) yields(c ipam.Clash) bool { return c.SamePort && c.With.Compare(s.Holder) < 0 }

// clashed is the condition of a Service that breaks the sharing rule.
func (s *service) clashed(clashes []ipam.Clash) Verdict {
	if slices.ContainsFunc(clashes, func(c ipam.Clash) bool { return !c.KeyMissing }) {
		return Verdict{OK: true, Reason: reason.SharingClash, Message: s.clashing(clashes)}
	}
	c := clashes[0]
	with := "another Service"
	if c.With.Namespace == s.Holder.Namespace {
		with = "Service " + c.With.String()
	}
	return Verdict{OK: true, Reason: reason.SharingKeyMissing, Message: fmt.Sprintf(
		"%s; %s is shared with %s without a key: annotate both with baremetal.cloud/sharing-key: %s", list(s.result.Assignments), c.Address, with, reason.Quote(c.Key))}
}

// clashing says with whom s clashes and who is served: of several others one to which s
// yields.
func (s *service) clashing(clashes []ipam.Clash) string {
	c := clashes[max(0, slices.IndexFunc(clashes, s.yields))]
	with := "another Service"
	if c.With.Namespace == s.Holder.Namespace {
		with = "Service " + c.With.String()
	}
	served := "both are served, as their ports differ"
	switch {
	case s.yields(c):
		served = "that one is older and is served there, this one is not"
	case c.SamePort:
		served = "this one is older and is served there, the other one is not"
	}
	return fmt.Sprintf("address %s is kept although it clashes with %s: %s; %s", c.Address, with, c.Why, served)
}

func (b *Balancer) shared(s *service) bool {
	return slices.ContainsFunc(s.result.Assignments, func(a ipam.Assignment) bool { return len(b.addresses.Holders(a.Address)) > 1 })
}

func (s *service) keeps() string {
	if len(s.result.Assignments) == 0 {
		return ""
	}
	return "; the Service keeps " + list(s.result.Assignments)
}

// list prints "192.0.2.1 from pool default, …".
func list(assignments []ipam.Assignment) string {
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

// announced says whether an address is announced in each way that its pool asks for, and on
// layer 2 by which node.
func (b *Balancer) announced(a ipam.Assignment) (Verdict, string) {
	_, l2 := b.l2[a.Pool]
	switch {
	case a.Pool == "":
		return Verdict{Reason: reason.AddressOutsidePools, Message: fmt.Sprintf("address %s is in no pool and is not announced", a.Address)}, ""
	case len(b.bgp.Pools[a.Pool]) == 0:
		verdict, node := b.answered(a)
		return b.contestedVerdict(a.Address, verdict), node
	case !l2:
		return b.routed(a.Address), ""
	}
	verdict, node := b.answered(a)
	verdict = worse(verdict, b.routed(a.Address))
	return b.contestedVerdict(a.Address, verdict), node
}

// answered says whether a node answers for an address on layer 2, and which.
func (b *Balancer) answered(a ipam.Assignment) (Verdict, string) {
	list, ok := b.plan.lists[a.Address]
	if !ok {
		verdict, decided := b.plan.nobody[a.Address]
		// A plan that is older than the first endpoint says nothing of it.
		if decided && !(verdict.Reason == reason.NoEndpoints && b.anywhere(a.Address, ipam.FamilyOf(a.Address))) {
			return verdict, ""
		}
		return Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("address %s waits to be placed on a node", a.Address)}, ""
	}
	if name := b.acknowledged(list); name != "" {
		verdict := answeredBy("answered by "+name, a.Address)
		if stuck := b.stuckWith(list); stuck != "" {
			verdict.Message, verdict.by = verdict.Message+stuck, ""
		}
		return verdict, name
	}
	owner := list.Candidates[0]
	if known, heard := b.announcer[owner]; heard {
		if p, ok := findProblem(known.report, a.Address); ok && known.report.Plan.Compare(list.Stamp) >= 0 && !b.replaceable(list) {
			return Verdict{Reason: p.Reason, Message: fmt.Sprintf("node %s was told to answer for %s and cannot: %s", owner, a.Address, p.Message)}, ""
		}
	}
	return Verdict{Reason: reason.WaitingForAnnouncer, Message: fmt.Sprintf("node %s was told to answer for %s and has not acknowledged it yet", owner, a.Address)}, ""
}

// replaceable reports whether a backup is about to take over from an owner that cannot answer.
// That is a move: no condition tells of it.
func (b *Balancer) replaceable(list announcement.Announcement) bool {
	return b.watching() && slices.ContainsFunc(list.Candidates[1:], func(name string) bool {
		return b.connected(name) && !b.unable(name, list.Address)
	})
}

// acknowledged returns the candidate of list that claims its address, or "".
func (b *Balancer) acknowledged(list announcement.Announcement) string {
	for _, name := range list.Candidates {
		if claim, ok := b.claim(name, list.Address); ok && claim.Stamp.Compare(b.plan.given[list.Address]) >= 0 {
			return name
		}
	}
	return ""
}

// Short counts the addresses that fewer nodes stand by for than may answer, because nodes
// would have to watch too many others (reason.NodeWatchesEnough). No condition says so: a
// node that dies leaves many addresses short at once.
func (b *Balancer) Short() int { return len(b.plan.short) }

func findProblem(report announcement.Report, address netip.Addr) (announcement.Problem, bool) {
	for _, p := range report.Problems {
		if p.Address == address {
			return p, true
		}
	}
	return announcement.Problem{}, false
}

// worse merges the verdicts of two addresses of one Service. What does not hold comes first,
// and of that what lasts: an address that moves while another has no endpoints changes
// nothing. What is so of both is said of both.
func worse(x, y Verdict) Verdict {
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
		out[b.allocated(s).Reason]++
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
