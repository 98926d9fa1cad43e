package control

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// applyPlan returns the whole plan that p amounts to for a receiver that holds have,
// which it leaves as it is. The error wraps errDoesNotFit where p is well formed but a
// difference to something else.
func applyPlan(have plan.NodePlan, p *pb.Plan) (plan.NodePlan, error) {
	set, announced, withdrawn, err := decodePlan(p)
	if err != nil {
		return plan.NodePlan{}, err
	}
	var withdrawnPeers []string
	if set.Failover, withdrawnPeers, err = decodeFailover(p); err != nil {
		return plan.NodePlan{}, err
	}
	var withdrawnRoutes []netip.Prefix
	if set.BGP, withdrawnRoutes, err = decodeBGP(p); err != nil {
		return plan.NodePlan{}, err
	}
	if p.GetSnapshot() {
		set.Assignments = plan.NewIndex(announced...)
		return set, checkRoutes(set.BGP, set.BGP.Routes)
	}
	if p.GetHealth() == nil {
		set.Health = have.Health
	}
	if p.GetPacing() == nil {
		set.Pacing = have.Pacing
	}
	if p.GetProbing() == nil {
		set.Probing = have.Probing
	}
	base := decodeVersion(p.GetBase())
	if have.Version.IsZero() || base != have.Version || set.Cluster != have.Cluster {
		return plan.NodePlan{}, fmt.Errorf("plan: difference to %s of cluster %q, but %s of cluster %q is held: %w",
			versionText(base), set.Cluster, versionText(have.Version), have.Cluster, errDoesNotFit)
	}
	set.Assignments, err = mergeIndex(planMerging, have.Assignments, announced, withdrawn)
	if err == nil {
		err = checkCount("plan: announcements", set.Assignments.Len(), maxAssignments)
	}
	if err == nil {
		err = applyFailover(have.Failover, &set, p, withdrawnPeers)
	}
	if err == nil {
		err = applyBGP(have.BGP, &set, p, withdrawnRoutes)
	}
	if err != nil {
		return plan.NodePlan{}, err
	}
	return set, nil
}

// decodePlan checks everything that can be checked without knowing the base.
func decodePlan(p *pb.Plan) (set plan.NodePlan, announced []plan.Assignment, withdrawn []netip.Addr, err error) {
	set = plan.NodePlan{Cluster: p.GetCluster(), Version: decodeVersion(p.GetVersion())}
	if set.Version.IsZero() {
		return set, nil, nil, fmt.Errorf("plan: no version")
	}
	if err := checkText("plan: cluster", set.Cluster, maxName); err != nil {
		return set, nil, nil, err
	}
	if p.GetSnapshot() && len(p.GetWithdrawn())+len(p.GetWithdrawnPeers())+len(p.GetWithdrawnRoutes()) > 0 {
		return set, nil, nil, fmt.Errorf("plan: a snapshot withdraws nothing")
	}
	if announced, err = decodeAssignments(p.GetAssignments()); err != nil {
		return set, nil, nil, err
	}
	if set.Health, err = decodeHealth(p.GetHealth()); err != nil {
		return set, nil, nil, err
	}
	if set.Pacing, err = decodePacing(p.GetPacing()); err != nil {
		return set, nil, nil, err
	}
	if set.Probing, err = decodeProbing(p.GetProbing()); err != nil {
		return set, nil, nil, err
	}
	withdrawn, err = decodeAddresses("plan: withdrawn", p.GetWithdrawn())
	return set, announced, withdrawn, err
}

func decodeHealth(p *pb.Health) (plan.Health, error) {
	if err := checkText("plan: health: proxy", p.GetProxy(), maxURL); err != nil {
		return plan.Health{}, err
	}
	if p.GetUnhealthyAfterMs() > uint64(maxUnhealthyAfter/time.Millisecond) {
		return plan.Health{}, fmt.Errorf("plan: health: unhealthy after %d ms; the limit is %s", p.GetUnhealthyAfterMs(), maxUnhealthyAfter)
	}
	return plan.Health{Proxy: p.GetProxy(), UnhealthyAfter: time.Duration(p.GetUnhealthyAfterMs()) * time.Millisecond}, nil
}

func decodeAssignments(list []*pb.Assignment) ([]plan.Assignment, error) {
	if err := checkCount("plan: announcements", len(list), maxAssignments); err != nil {
		return nil, err
	}
	assignments := make([]plan.Assignment, 0, len(list))
	var order ascending
	for i, p := range list {
		a, err := decodeAssignment(p)
		if err == nil {
			err = order.checkNext(a.Address)
		}
		if err != nil {
			return nil, fmt.Errorf("plan: announcement %d: %w", i, err)
		}
		assignments = append(assignments, a)
	}
	return assignments, nil
}

func decodeAssignment(p *pb.Assignment) (plan.Assignment, error) {
	addr, err := decodeAddress(p.GetAddress())
	if err != nil {
		return plan.Assignment{}, err
	}
	if err := checkCount("candidates", len(p.GetCandidates()), maxCandidates); err != nil {
		return plan.Assignment{}, err
	}
	if err := checkCount("former candidates", len(p.GetFormer()), maxCandidates); err != nil {
		return plan.Assignment{}, err
	}
	for _, name := range slices.Concat(p.GetCandidates(), p.GetFormer()) {
		if err := checkName("candidate", name); err != nil {
			return plan.Assignment{}, err
		}
	}
	if n := len(p.GetProofs()); n%plan.ProofSize != 0 || n > plan.ProofSize*(len(p.GetCandidates())+len(p.GetFormer())) {
		return plan.Assignment{}, fmt.Errorf("proofs of %d bytes for %d candidates", n, len(p.GetCandidates())+len(p.GetFormer()))
	}
	if err := checkText("interface", p.GetInterface(), maxName); err != nil {
		return plan.Assignment{}, err
	}
	if p.GetHealthPort() > math.MaxUint16 {
		return plan.Assignment{}, fmt.Errorf("health port %d; the highest is %d", p.GetHealthPort(), math.MaxUint16)
	}
	return plan.Assignment{
		HealthPort: uint16(p.GetHealthPort()),
		Address:    addr,
		Version:    decodeVersion(p.GetVersion()),
		Candidates: slices.Clone(p.GetCandidates()),
		Former:     slices.Clone(p.GetFormer()),
		Proofs:     slices.Clone(p.GetProofs()),
		Interface:  p.GetInterface(),
	}, nil
}
