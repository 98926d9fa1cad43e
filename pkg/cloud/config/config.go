package config

import (
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
)

// What the keys apiVersion and kind must say.
const (
	APIVersion = "baremetal.cloud/v1alpha1"
	Kind       = "CloudConfig"
)

// Config is a cloud-config that was checked as a whole. It is not changed after Parse.
type Config struct {
	// ServicesWithoutClass serves the Services that name no class.
	ServicesWithoutClass bool
	// LoadBalancerClasses are served too. Each is a qualified name, as the API server asks of
	// spec.loadBalancerClass, and none is listed twice.
	LoadBalancerClasses []string
	// Pools have unique names, in the order of the file. No two of their ranges overlap.
	Pools []Pool
	// Reservations name each Service and each address once, at most one address of each
	// family for a Service, and every address lies in a pool.
	Reservations []ipam.Reservation
	// OnShrink is never "".
	OnShrink ShrinkPolicy
	// Failover is how soon nodes notice that another one is gone.
	Failover Failover
	// BGP says which routers nodes speak to.
	BGP BGP
	// MaxMovesPerMinute is how many addresses may move in a minute to even out the load among
	// nodes, 0 to 600; 0 is none.
	MaxMovesPerMinute int
	// NodeHealth is how nodes learn whether they serve traffic.
	NodeHealth NodeHealth
	// Announce is how nodes announce addresses to their network unasked.
	Announce Announce
	// Conflicts is how addresses are checked for other machines that use them.
	Conflicts Conflicts
	// Nodes is nil where nodes are not initialised.
	Nodes *Nodes
}

// Pool is a pool of addresses and how they are announced.
type Pool struct {
	ipam.Pool
	// L2 asks for layer 2 announcement, by ARP and NDP: none or one. It is empty where the pool
	// has only other ways of announcement; where it has none at all, layer 2 is the default.
	L2 []L2
	// BGP is how the pool is announced to routers; empty where it is not.
	BGP []Advertisement
}

// L2 says where the addresses of a pool are answered on layer 2.
type L2 struct {
	// Interface is "" for the interfaces on the address's segment, a name,
	// "/regular expression/" that compiles, or "can_reach:ADDRESS" that parses.
	Interface string
	// NodeSelector picks the nodes by their labels; nil picks all.
	NodeSelector ipam.Selector
}

// ShrinkPolicy says what becomes of a reload that would leave a Service's address outside
// every pool.
type ShrinkPolicy string

const (
	// ShrinkRefuse refuses the reload as a whole; the configuration before it stays.
	ShrinkRefuse ShrinkPolicy = "Refuse"
	// ShrinkReassign accepts it and gives the Service another address.
	ShrinkReassign ShrinkPolicy = "Reassign"
)

// setDefaults gives the value of each key that the file leaves out. Those of pools, peers and the
// like are beside their checks.
func (f *file) setDefaults() {
	*f = file{
		ServicesWithoutClass: true,
		OnShrink:             ShrinkRefuse,
		Failover:             Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3},
		Announce:             Announce(plan.DefaultPacing()),
		Conflicts:            Conflicts{ProbeAhead: 32, ProbeInterval: 5 * time.Minute, Quarantine: 10 * time.Minute},
		NodeHealth:           NodeHealth{KubeProxy: "http://127.0.0.1:10256/healthz", UnwellAfter: 30 * time.Second},
	}
}
