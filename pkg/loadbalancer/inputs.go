package loadbalancer

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/reason"
)

// Config is what an administrator decides.
type Config struct {
	ipam.Config
	// ServicesWithoutClass serves the Services that name no class, Classes those that name one
	// of these.
	ServicesWithoutClass bool
	Classes              []string
	// L2 holds, by pool name, how the pool's addresses are announced on layer 2. The
	// addresses of a pool that is in neither this nor BGP are not announced.
	L2 map[string]L2
	// BGP is how pools are announced to routers.
	BGP BGP
	// Failover is how nodes watch each other; with the zero value they do not.
	Failover Failover
	// MaxMovesPerMinute is how many addresses may move in a minute to even out the load,
	// see Rebalance; 0 is none. Without failover there are none either.
	MaxMovesPerMinute int
	// Health is how nodes learn whether they serve traffic; with the zero value they do not.
	Health plan.Health
	// Announce is how nodes announce addresses to their network unasked.
	Announce plan.Pacing
	// DrainOnCordon makes a node give its addresses to others while it is cordoned.
	DrainOnCordon bool
	// Conflicts is how addresses are checked for other machines; with the zero value they are
	// not probed.
	Conflicts Conflicts
}

// L2 is how addresses are announced by ARP and NDP.
type L2 struct {
	// Interface selects interfaces on the node; see plan.Assignment.
	Interface string
	// NodeSelector restricts the nodes; nil allows all.
	NodeSelector ipam.Selector
}

// Service is a Service of type LoadBalancer that is served here.
type Service struct {
	ipam.Request
	// Class is spec.loadBalancerClass, "" where there is none.
	Class string
	// Published are the addresses in the Service's status.
	Published []netip.Addr
	// HealthPort is spec.healthCheckNodePort, 0 where there is none.
	HealthPort uint16
}

// Key returns "namespace/name".
func (s *Service) Key() string { return s.Holder.String() }

// Node is a Node object as far as announcing is concerned.
type Node struct {
	Name   string
	Labels map[string]string
	// Zone is the failure domain that backups are spread over; "" is unknown.
	Zone string
	// Excluded: label node.kubernetes.io/exclude-from-external-load-balancers.
	Excluded bool
	// NetworkUnavailable: the condition of that name is true.
	NetworkUnavailable bool
	// Deleting: the Node has a deletion timestamp.
	Deleting bool
	// Cordoned: spec.unschedulable.
	Cordoned bool
	// Addresses are those that the Node's status says it has.
	Addresses []netip.Addr
}

func (n Node) equalNode(o Node) bool {
	return n.Name == o.Name && n.Zone == o.Zone && n.Excluded == o.Excluded && n.Deleting == o.Deleting && n.Cordoned == o.Cordoned &&
		n.NetworkUnavailable == o.NetworkUnavailable && maps.Equal(n.Labels, o.Labels) && slices.Equal(n.Addresses, o.Addresses)
}

// Endpoint is one endpoint of a Service (discovery.k8s.io/v1 EndpointSlice).
type Endpoint struct {
	// Family is the addressType of its slice.
	Family ipam.Family
	Node   string
	// Ready and Serving are the EndpointConditions; an endpoint that is Serving but not
	// Ready is terminating.
	Ready, Serving bool
}

// Endpoints says where a Service can be reached by each address family: kube-proxy works
// for each by itself and sends what comes in for an IPv6 address to IPv6 endpoints only.
// The zero value is nowhere.
type Endpoints struct{ IPv4, IPv6 Reach }

// Reach is where the usable endpoints of one family are. The zero value is nowhere.
type Reach struct {
	// Nodes have a usable endpoint, sorted.
	Nodes []string
	// Any reports whether there is a usable endpoint, on a known node or not.
	Any bool
	// Ending reports whether none of them is ready: they still serve while they terminate. A
	// healthCheckNodePort knows nothing of those (KEP-1669).
	Ending bool
}

// Usable reduces the endpoints of all slices of a Service.
func Usable(endpoints []Endpoint) Endpoints {
	return Endpoints{IPv4: usableOf(endpoints, ipam.IPv4), IPv6: usableOf(endpoints, ipam.IPv6)}
}

// usableOf reduces the endpoints of one family: to those that are ready, or where nothing is
// ready to those that still serve while they terminate, as kube-proxy does (KEP-1669).
func usableOf(endpoints []Endpoint, f ipam.Family) Reach {
	ready := slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.Family == f && e.Ready })
	var out Reach
	for _, e := range endpoints {
		if e.Family == f && (e.Ready || !ready && e.Serving) {
			out.Any = true
			if e.Node != "" {
				out.Nodes = append(out.Nodes, e.Node)
			}
		}
	}
	out.Ending = out.Any && !ready
	slices.Sort(out.Nodes)
	out.Nodes = slices.Compact(out.Nodes)
	return out
}

func (e Endpoints) equalEndpoints(o Endpoints) bool {
	return e.IPv4.equalReach(o.IPv4) && e.IPv6.equalReach(o.IPv6)
}

// ofFamily returns where the Service can be reached by addresses of a family.
func (e Endpoints) ofFamily(f ipam.Family) Reach {
	if f == ipam.IPv4 {
		return e.IPv4
	}
	return e.IPv6
}

func (r Reach) equalReach(o Reach) bool {
	return r.Any == o.Any && r.Ending == o.Ending && slices.Equal(r.Nodes, o.Nodes)
}

// hasNode reports whether node has a usable endpoint.
func (r Reach) hasNode(node string) bool {
	_, ok := slices.BinarySearch(r.Nodes, node)
	return ok
}

// announcer is what is known of one node's announcer.
type announcer struct {
	// connected reports whether it has a stream to this leader now.
	connected bool
	// spoke is when it reported last, as the number of that among all reports.
	spoke uint64
	// report is the last one, kept when the stream is lost.
	report plan.Report
	// established are the BGP peers that it had a session with since this replica has heard it.
	established map[string]bool
	// unable are the addresses for which it said that it cannot answer, and why; see problems.go.
	unable map[netip.Addr]reason.Reason
	// unhealthy reports whether it has been unhealthy for unhealthyDelay, and unhealthyAt is since when.
	unhealthy   bool
	unhealthyAt time.Time
	// interfaces are those of the last report that had any: one that ends has none that
	// carry addresses, but is still there for those that take them over.
	interfaces []plan.Interface
}
