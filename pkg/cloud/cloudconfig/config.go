package cloudconfig

import (
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/ipam"
)

// What the keys apiVersion and kind must say.
const (
	APIVersion = "baremetal.cloud/v1alpha1"
	Kind       = "CloudConfig"
)

// Config is a cloud-config that was checked as a whole. It is not changed after Parse.
type Config struct {
	// LoadBalancerClasses are served beside the Services that name no class: none or one.
	// It is a qualified name, as the API server asks of spec.loadBalancerClass.
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
	// BGP is to which routers nodes speak.
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

// defaultConfig holds the value of each key that a file leaves out.
func defaultConfig() Config {
	return Config{OnShrink: ShrinkRefuse, Failover: defaultFailover(), NodeHealth: defaultNodeHealth(), Announce: announcement.DefaultPacing(), Conflicts: defaultConflicts()}
}

// defaultFailover finds a node down after 300 ms of silence.
func defaultFailover() Failover {
	return Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3}
}

// defaultNodeHealth asks kube-proxy where it answers unless it is told otherwise.
func defaultNodeHealth() NodeHealth {
	return NodeHealth{KubeProxy: "http://127.0.0.1:10256/healthz", UnwellAfter: 30 * time.Second}
}

// defaultPool holds the value of each key that a pool leaves out.
func defaultPool() Pool {
	return Pool{Pool: ipam.Pool{AutoAssign: true, ReuseAfter: 10 * time.Minute}}
}

// defaultNodes holds the value of each key that nodes leaves out.
func defaultNodes() *Nodes { return &Nodes{ProviderID: "baremetal://" + nodeName} }

// defaultRestartTime is how long routers are asked to keep the routes of a node whose
// announcer restarts, where graceful restart is asked for without a time. A dead node looks
// the same to them, so that it is short.
const defaultRestartTime = time.Minute

// defaultPeer holds the value of each key that a peer leaves out, but for those that depend
// on others: keepaliveTime is a third of holdTime, families are that of the address.
func defaultPeer() Peer {
	return Peer{BGPPeer: announcement.BGPPeer{Port: 179, HoldTime: 30 * time.Second, ConnectRetryTime: 5 * time.Second}}
}

// defaultBFD holds the value of each key that bfd leaves out: what most routers have, too.
func defaultBFD() announcement.BFD {
	return announcement.BFD{TransmitInterval: 300 * time.Millisecond, ReceiveInterval: 300 * time.Millisecond, DetectMultiplier: 3}
}

// defaultAdvertisement holds the value of each key that a pool's advertisement leaves out.
func defaultAdvertisement() Advertisement {
	return Advertisement{AggregationLength: 32, AggregationLengthV6: 128}
}

// defaultL2 is how a pool is announced that does not say how.
func defaultL2() []L2 { return []L2{{}} }
