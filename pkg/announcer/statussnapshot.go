package announcer

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/bgp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// Status is what an announcer does at one time, for people and metrics. It is shared and
// never written to.
type Status struct {
	// Started reports whether the interfaces are known, so that plans can be carried out.
	Started bool
	// Busy is for how long the announcer has been at one and the same turn of its loop.
	Busy time.Duration
	// Plan is the version of the newest plan that was carried out; zero before any.
	Plan plan.Version
	// Persisted reports whether an earlier life of the announcer was given the plan, and that no leader
	// has confirmed it in this one.
	Persisted bool
	// Working reports whether the node's service proxy works, as far as it is asked, and Unhealthy that
	// it has not for so long that others must answer.
	Working, Unhealthy bool
	// Written and Unwritten count how often a plan was written for the next life, and how
	// often that failed.
	Written, Unwritten uint64
	Claims             plan.Index[Claim]
	// Problems are sorted by address.
	Problems []plan.Problem
	// Backup is how many addresses of the plan others answer for.
	Backup int
	// Streams are sorted by replica.
	Streams []Stream
	// Refused counts plans that were not accepted, by one of RefusalCauses.
	Refused map[string]uint64
	// Peers is how many of those that the node watches are in each failover.State.
	Peers [3]int
	// ClaimsStarted and ClaimsEnded count the addresses that the node began and ended to
	// answer for, by one of StartCauses and EndCauses.
	ClaimsStarted, ClaimsEnded map[string]uint64
	// Sent and Unsent count datagrams to peers, and Dropped those received that did not
	// count, by one of failover.DropCauses.
	Sent, Unsent uint64
	Dropped      map[string]uint64
	// BGP is how the sessions to routers fare.
	BGP bgp.State
	// Found counts the other machines that have an address of the plan, and Conflicts are what
	// the node did about them.
	Found     int
	Conflicts ConflictCounts
	// Responders are what the responders did so far, by address family.
	Responders map[string]responder.Counts
}

// Claim is an address that is being answered.
type Claim struct {
	Address netip.Addr
	// Interfaces are the names of those it is answered on, separated by ", ".
	Interfaces string
	// Since is when answering began.
	Since time.Time
	// List is the version of the candidate list behind the claim.
	List plan.Version

	// hardware tells interfaces and their addresses apart from others of the same names.
	hardware string
}

// At returns the address.
func (c Claim) At() netip.Addr { return c.Address }

// Equal reports whether c and d say the same.
func (c Claim) Equal(d Claim) bool { return c == d }

// Stream is the state of the control stream to one replica.
type Stream struct {
	Replica string
	Up      bool
	// Since is when the stream came up or went down.
	Since time.Time
}

func sortStreams(streams map[string]Stream) []Stream {
	out := make([]Stream, 0, len(streams))
	for _, s := range streams {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Stream) int { return cmp.Compare(a.Replica, b.Replica) })
	return out
}
