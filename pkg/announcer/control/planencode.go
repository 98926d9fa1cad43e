package control

import (
	"time"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// planMessage says want to a peer that was last told base: as a difference, or whole where
// base is nothing, another cluster's, or so different that the whole is shorter.
func planMessage(base, want plan.NodePlan) *pb.Plan {
	if base.Version.IsZero() || base.Cluster != want.Cluster {
		return planSnapshot(want)
	}
	delta := planDelta(base, want)
	said := len(delta.Assignments) + len(delta.Withdrawn) + len(delta.Peers) + len(delta.WithdrawnPeers) +
		len(delta.Routes) + len(delta.WithdrawnRoutes)
	if said > want.Assignments.Len()+len(want.Failover.Peers)+len(want.BGP.Routes) {
		return planSnapshot(want)
	}
	return delta
}

func planSnapshot(set plan.NodePlan) *pb.Plan {
	nodePlan := &pb.Plan{Cluster: set.Cluster, Version: encodeVersion(set.Version), Snapshot: true}
	nodePlan.Assignments = make([]*pb.Assignment, 0, set.Assignments.Len())
	for a := range set.Assignments.All() {
		nodePlan.Assignments = append(nodePlan.Assignments, encodeAssignment(a))
	}
	failoverSnapshot(nodePlan, set.Failover)
	nodePlan.Health = encodeHealth(set.Health)
	nodePlan.Pacing = encodePacing(set.Pacing)
	nodePlan.Probing = encodeProbing(set.Probing)
	bgpSnapshot(nodePlan, set.BGP)
	return nodePlan
}

// planDelta announces what is new or changed and withdraws what is gone.
func planDelta(base, want plan.NodePlan) *pb.Plan {
	nodePlan := &pb.Plan{Cluster: want.Cluster, Version: encodeVersion(want.Version), Base: encodeVersion(base.Version)}
	for address, a := range plan.Delta(base.Assignments, want.Assignments) {
		if a == nil {
			nodePlan.Withdrawn = append(nodePlan.Withdrawn, address.AsSlice())
		} else {
			nodePlan.Assignments = append(nodePlan.Assignments, encodeAssignment(*a))
		}
	}
	failoverDelta(nodePlan, base.Failover, want.Failover)
	if base.Health != want.Health {
		nodePlan.Health = encodeHealth(want.Health)
	}
	if base.Pacing != want.Pacing {
		nodePlan.Pacing = encodePacing(want.Pacing)
	}
	if !base.Probing.Equal(want.Probing) {
		nodePlan.Probing = encodeProbing(want.Probing)
	}
	bgpDelta(nodePlan, base.BGP, want.BGP)
	return nodePlan
}

func encodeAssignment(a plan.Assignment) *pb.Assignment {
	return &pb.Assignment{
		Address:    a.Address.AsSlice(),
		Version:    encodeVersion(a.Version),
		Candidates: a.Candidates,
		Interface:  a.Interface,
		HealthPort: uint32(a.HealthPort),
		Former:     a.Former,
		Proofs:     a.Proofs,
	}
}

func encodeHealth(h plan.Health) *pb.Health {
	return &pb.Health{Proxy: h.Proxy, UnhealthyAfterMs: uint64(h.UnhealthyAfter / time.Millisecond)} //nolint:gosec // never negative
}
