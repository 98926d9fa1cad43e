package announcer

import (
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// lost says for people why a claim ended: what the plan now says of its address, or who
// claims it.
func (c *core) lost(a announcement.Announcement, planned bool) string {
	claimant := c.sight.Claimant(a.Address)
	at := slices.IndexFunc(c.options, func(o option) bool { return o.Address == a.Address && o.problem != nil })
	switch {
	case !planned:
		return "withdrawn"
	case len(a.Candidates) == 0:
		return "given to nobody"
	case at >= 0:
		return c.options[at].problem.Message
	case claimant != "":
		return claimant + " answers"
	case !slices.Contains(a.Candidates, c.node) || a.Candidates[0] != c.node:
		return "given to " + a.Candidates[0]
	default:
		return "this node overslept, and listens first"
	}
}
