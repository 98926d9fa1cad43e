package control

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
)

// applyPlan returns the whole plan that p amounts to for a receiver that holds have,
// which it leaves as it is. The error wraps errDoesNotFit where p is well formed but a
// difference to something else.
func applyPlan(have announcement.Set, p *pb.Plan) (announcement.Set, error) {
	set, announced, withdrawn, err := decodePlan(p)
	if err != nil {
		return announcement.Set{}, err
	}
	var withdrawnPeers []string
	if set.Sight, withdrawnPeers, err = decodeSight(p); err != nil {
		return announcement.Set{}, err
	}
	var withdrawnRoutes []netip.Prefix
	if set.BGP, withdrawnRoutes, err = decodeBGP(p); err != nil {
		return announcement.Set{}, err
	}
	if p.GetSnapshot() {
		set.Announcements = announcement.NewIndex(announced...)
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
	base := decodeStamp(p.GetBase())
	if have.Stamp.IsZero() || base != have.Stamp || set.Cluster != have.Cluster {
		return announcement.Set{}, fmt.Errorf("plan: difference to %s of cluster %q, but %s of cluster %q is held: %w",
			stampText(base), set.Cluster, stampText(have.Stamp), have.Cluster, errDoesNotFit)
	}
	set.Announcements, err = merge(planMerging, have.Announcements, announced, withdrawn)
	if err == nil {
		err = checkCount("plan: announcements", set.Announcements.Len(), maxAnnouncements)
	}
	if err == nil {
		err = applySight(have.Sight, &set, p, withdrawnPeers)
	}
	if err == nil {
		err = applyBGP(have.BGP, &set, p, withdrawnRoutes)
	}
	if err != nil {
		return announcement.Set{}, err
	}
	return set, nil
}

// decodePlan checks everything that can be checked without knowing the base.
func decodePlan(p *pb.Plan) (set announcement.Set, announced []announcement.Announcement, withdrawn []netip.Addr, err error) {
	set = announcement.Set{Cluster: p.GetCluster(), Stamp: decodeStamp(p.GetStamp())}
	if set.Stamp.IsZero() {
		return set, nil, nil, fmt.Errorf("plan: no stamp")
	}
	if err := checkText("plan: cluster", set.Cluster, maxName); err != nil {
		return set, nil, nil, err
	}
	if p.GetSnapshot() && len(p.GetWithdrawn())+len(p.GetWithdrawnPeers())+len(p.GetWithdrawnRoutes()) > 0 {
		return set, nil, nil, fmt.Errorf("plan: a snapshot withdraws nothing")
	}
	if announced, err = decodeAnnouncements(p.GetAnnouncements()); err != nil {
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

func decodeHealth(p *pb.Health) (announcement.Health, error) {
	if err := checkText("plan: health: proxy", p.GetProxy(), maxURL); err != nil {
		return announcement.Health{}, err
	}
	if p.GetUnwellAfterMs() > uint64(maxUnwellAfter/time.Millisecond) {
		return announcement.Health{}, fmt.Errorf("plan: health: unwell after %d ms; the limit is %s", p.GetUnwellAfterMs(), maxUnwellAfter)
	}
	return announcement.Health{Proxy: p.GetProxy(), UnwellAfter: time.Duration(p.GetUnwellAfterMs()) * time.Millisecond}, nil
}

func decodeAnnouncements(list []*pb.Announcement) ([]announcement.Announcement, error) {
	if err := checkCount("plan: announcements", len(list), maxAnnouncements); err != nil {
		return nil, err
	}
	announcements := make([]announcement.Announcement, 0, len(list))
	var order ascending
	for i, p := range list {
		a, err := decodeAnnouncement(p)
		if err == nil {
			err = order.next(a.Address)
		}
		if err != nil {
			return nil, fmt.Errorf("plan: announcement %d: %w", i, err)
		}
		announcements = append(announcements, a)
	}
	return announcements, nil
}

func decodeAnnouncement(p *pb.Announcement) (announcement.Announcement, error) {
	addr, err := decodeAddress(p.GetAddress())
	if err != nil {
		return announcement.Announcement{}, err
	}
	if err := checkCount("candidates", len(p.GetCandidates()), maxCandidates); err != nil {
		return announcement.Announcement{}, err
	}
	if err := checkCount("former candidates", len(p.GetFormer()), maxCandidates); err != nil {
		return announcement.Announcement{}, err
	}
	for _, name := range slices.Concat(p.GetCandidates(), p.GetFormer()) {
		if err := checkName("candidate", name); err != nil {
			return announcement.Announcement{}, err
		}
	}
	if n := len(p.GetProofs()); n%announcement.ProofSize != 0 || n > announcement.ProofSize*(len(p.GetCandidates())+len(p.GetFormer())) {
		return announcement.Announcement{}, fmt.Errorf("proofs of %d bytes for %d candidates", n, len(p.GetCandidates())+len(p.GetFormer()))
	}
	if err := checkText("interface", p.GetInterface(), maxName); err != nil {
		return announcement.Announcement{}, err
	}
	if p.GetHealthPort() > math.MaxUint16 {
		return announcement.Announcement{}, fmt.Errorf("health port %d; the highest is %d", p.GetHealthPort(), math.MaxUint16)
	}
	return announcement.Announcement{
		HealthPort: uint16(p.GetHealthPort()),
		Address:    addr,
		Stamp:      decodeStamp(p.GetStamp()),
		Candidates: slices.Clone(p.GetCandidates()),
		Former:     slices.Clone(p.GetFormer()),
		Proofs:     slices.Clone(p.GetProofs()),
		Interface:  p.GetInterface(),
	}, nil
}
