// Package plan is the vocabulary that the cluster side and the nodes share:
// what a node must announce, what it says it announces, and the order in which such statements
// supersede each other. It is pure: no clock, socket, goroutine, lock or logger, and it imports
// nothing of this project but package reason.
package plan

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/reason"
)

// Version orders everything that leaders say. Term grows with every leader, Revision
// with every change that one leader publishes. The zero Version is older than any other.
type Version struct {
	Term     uint64
	Revision uint64
}

// Compare returns -1, 0 or +1 as s is older than, equal to, or newer than t.
func (s Version) Compare(t Version) int {
	return cmp.Or(cmp.Compare(s.Term, t.Term), cmp.Compare(s.Revision, t.Revision))
}

// IsZero reports whether s was never given.
func (s Version) IsZero() bool { return s == Version{} }

// Assignment is one address that a set of nodes may answer for.
type Assignment struct {
	// Address is the load balancer address, never an IPv4-mapped IPv6 address and
	// never with a zone.
	Address netip.Addr
	// Version is the (term, revision) that last changed Candidates, Interface or HealthPort.
	Version Version
	// Candidates are node names in order: the owner first, then its backups.
	Candidates []string
	// Former are nodes that were candidates before and may not have heard yet that they no longer
	// are. They hear which nodes are.
	Former []string
	// Proofs are the proofs of the node to which this is given, for each of Candidates and
	// Former but itself, in this order; see Proof.
	Proofs []byte
	// Interface selects the interfaces to answer on: "" for those on the address's
	// segment, OnLinkOnly, a name, "/regular expression/" or "can_reach:ADDRESS".
	Interface string
	// HealthPort is where the node's service proxy says by HTTP whether it serves the
	// address by an endpoint of its own (healthCheckNodePort); 0 is nowhere.
	HealthPort uint16
}

// At returns the address.
func (a Assignment) At() netip.Addr { return a.Address }

// Equal reports whether a and b say the same.
func (a Assignment) Equal(b Assignment) bool {
	return a.Address == b.Address && a.Version == b.Version && a.Interface == b.Interface && a.HealthPort == b.HealthPort &&
		slices.Equal(a.Candidates, b.Candidates) && slices.Equal(a.Former, b.Former) && bytes.Equal(a.Proofs, b.Proofs)
}

// NodePlan is the whole plan of one node: every address whose candidate list names it, and what
// it says to routers. The zero Set says nothing at all; a NodePlan with a Version and no announcements reports
// that the node has to announce nothing.
type NodePlan struct {
	// Cluster is the UID of the namespace kube-system of the cluster that speaks.
	Cluster string
	// Version is the (term, revision) of this plan.
	Version     Version
	Assignments Index[Assignment]
	// Failover says how this node watches those that it shares lists with.
	Failover Failover
	// BGP is what this node says to routers.
	BGP BGP
	// Probing is what this node asks its network for.
	Probing Probing
	// Health says how this node learns whether it serves traffic.
	Health Health
	// Pacing is how this node announces addresses unasked.
	Pacing Pacing
	// Voucher says by which authority the speaker of this plan was known. It is the receiver's
	// own knowledge and never comes with the plan.
	Voucher Voucher
}

// Voucher is by which certificate authority the speaker of a plan was known.
type Voucher struct {
	// Authority names it; "" is none, in a test.
	Authority string
	// Trusted are all authorities that were trusted then, this one included.
	Trusted []string
}

// Health is how a node learns whether its service proxy works. The zero value is not at all.
type Health struct {
	// Proxy is an http URL with a loopback address, which answers 200 while it works.
	Proxy string
	// UnhealthyAfter is for how long it may not, before the node gives its addresses to others.
	UnhealthyAfter time.Duration
}

// Claim is a node's statement that it answers for an address because of the list
// with that version.
type Claim struct {
	Address netip.Addr
	Version Version
}

// At returns the address.
func (c Claim) At() netip.Addr { return c.Address }

// Equal reports whether c and d say the same.
func (c Claim) Equal(d Claim) bool { return c == d }

// Problem is why a node cannot answer for an address that it must answer for, or be a backup for.
type Problem struct {
	Address netip.Addr
	Reason  reason.Reason
	// Message is one sentence for a person; it names the interface or system error.
	Message string
}

// At returns the address.
func (p Problem) At() netip.Addr { return p.Address }

// Equal reports whether p and q say the same.
func (p Problem) Equal(q Problem) bool { return p == q }

// DefaultRoute is a default route of a node, of either family.
type DefaultRoute struct {
	// Gateway is the next hop; a link-local one has the interface as its zone.
	Gateway netip.Addr
	// Interface is the one that the route leaves by.
	Interface string
}

// Failover is how a node and those that it shares candidate lists with watch each other.
type Failover struct {
	// TransmitInterval is the time between two packets to a peer.
	TransmitInterval time.Duration
	// DetectMultiplier is how many of them may be missing before the peer is down.
	DetectMultiplier int
	// Peers are the nodes to watch, sorted by name. Every other candidate of every
	// announcement is one, and there may be more, so that a session stands before a
	// list needs it.
	Peers []Peer
	// ProofKey checks the proofs of what other nodes claim. Only the node and the leaders
	// know it. The zero Key checks nothing: every claim counts.
	ProofKey Key
}

// Peer is a node that another one watches.
type Peer struct {
	Node string
	// Interfaces are the peer's as it last reported them; where it is reached follows
	// from their prefixes, which include the link-local ones.
	Interfaces []Interface
	// Addresses are the Node's own, where it is looked for first: its interfaces may have
	// others that move from node to node.
	Addresses []netip.Addr
	// Key authenticates what the two nodes say to each other. Only they and the leaders
	// know it, and it is the same from leader to leader.
	Key Key
}

// Equal reports whether p and q say the same.
func (p Peer) Equal(q Peer) bool {
	return p.Node == q.Node && p.Key == q.Key && slices.Equal(p.Addresses, q.Addresses) && slices.EqualFunc(p.Interfaces, q.Interfaces, Interface.Equal)
}

// Key is a secret of two nodes. It prints as nothing.
type Key [32]byte

// String keeps a Key out of logs.
func (Key) String() string { return "(secret)" }

// GoString keeps a Key out of logs.
func (k Key) GoString() string { return k.String() }

// Report is the whole state of a node as its announcer knows it.
type Report struct {
	// Plan is the version of the newest plan that the node has carried out.
	Plan Version
	// Highest is the highest version that the node ever accepted from any leader.
	Highest Version
	// Implausible is the highest version that the node refused because no history of leaders
	// can have reached its term; zero is none in this life.
	Implausible Version
	// Cluster is the cluster whose plan the node carries out, or "".
	Cluster string
	Claims  Index[Claim]
	// Problems are sorted by address.
	Problems []Problem
	// Interfaces are those that can carry addresses, or could if they were not down, sorted
	// by name.
	Interfaces []Interface
	// Unhealthy reports whether the node's service proxy does not work, and has not for UnhealthyAfter.
	Unhealthy bool
	// Down are the peers, sorted by name, that the node has heard and now finds down. One
	// never heard is not among them.
	Down []string
	// BGP is the state of the node's sessions to routers.
	BGP BGPReport
	// Probed is the Version of the newest Probing of which the node has asked for every address.
	Probed Version
	// Findings are sorted, see Finding.Compare.
	Findings []Finding
}

// Equal reports whether r and s say the same.
func (r Report) Equal(s Report) bool {
	return r.Unhealthy == s.Unhealthy && r.Plan == s.Plan && r.Highest == s.Highest && r.Implausible == s.Implausible && r.Cluster == s.Cluster && r.Claims.Equal(s.Claims) &&
		slices.Equal(r.Problems, s.Problems) && slices.EqualFunc(r.Interfaces, s.Interfaces, Interface.Equal) &&
		slices.Equal(r.Down, s.Down) && r.BGP.Plan == s.BGP.Plan && slices.Equal(r.BGP.Sessions, s.BGP.Sessions) &&
		slices.Equal(r.BGP.Withheld, s.BGP.Withheld) &&
		r.Probed == s.Probed && slices.Equal(r.Findings, s.Findings)
}
