package announcer

import (
	"net/netip"
	"slices"
)

// lost says for people why the claim to address ended: what the plan now says of it, or who
// claims it.
func (c *core) lost(address netip.Addr) string {
	a, planned := c.set.Announcements.Find(address)
	problem, claimant := c.options[address].problem, c.sight.Claimant(address)
	switch {
	case c.leaving:
		return "the announcer ends"
	case !planned:
		return "withdrawn"
	case len(a.Candidates) == 0:
		return "given to nobody"
	case problem != nil:
		return problem.Message
	case claimant != "":
		return claimant + " answers"
	case !slices.Contains(a.Candidates, c.node) || a.Candidates[0] != c.node:
		return "given to " + a.Candidates[0]
	default:
		return "this node overslept, and listens first"
	}
}
