package announcer

import "net/netip"

// Why the node began to answer for an address, as a metric label.
const (
	startedByPlan   = "plan"
	startedTakeover = "takeover"
)

// StartCauses returns the keys that Status.ClaimsStarted may have: the plan names the node
// first, or it took over as a backup.
func StartCauses() []string { return []string{startedByPlan, startedTakeover} }

// Why the node ended to answer for an address, as a metric label.
const (
	endedWithdrawn = "withdrawn"
	endedMoved     = "moved"
	endedProblem   = "problem"
	endedPeer      = "peer"
	endedOverslept = "overslept"
	endedLeaving   = "leaving"
)

// EndCauses returns the keys that Status.ClaimsEnded may have: the plan has the address no
// more or names another node first; the node is not able to answer; a peer answers though
// the plan names this node first; the process overslept; or it ends.
func EndCauses() []string {
	return []string{endedWithdrawn, endedMoved, endedProblem, endedPeer, endedOverslept, endedLeaving}
}

// startCause returns why the claim to address began.
func (c *core) startCause(address netip.Addr) string {
	if candidates := c.options[address].Candidates; len(candidates) > 0 && candidates[0] == c.node {
		return startedByPlan
	}
	return startedTakeover
}

// endCause returns why the claim to address ended: what the plan now says of it, or which machine
// claims it; text is that for people.
func (c *core) endCause(address netip.Addr) (cause, text string) {
	a, planned := c.nodePlan.Assignments.Find(address)
	problem, claimant := c.options[address].problem, c.failover.Claimant(address)
	switch {
	case c.stopping:
		return endedLeaving, "the announcer ends"
	case !planned:
		return endedWithdrawn, "withdrawn"
	case len(a.Candidates) == 0:
		return endedMoved, "given to nobody"
	case problem != nil:
		return endedProblem, problem.Message
	case a.Candidates[0] == c.node && claimant != "":
		return endedPeer, claimant + " answers"
	case claimant != "":
		return endedMoved, claimant + " answers"
	case a.Candidates[0] != c.node:
		return endedMoved, "given to " + a.Candidates[0]
	default:
		return endedOverslept, "this node overslept, and listens first"
	}
}
