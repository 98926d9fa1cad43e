package control

import (
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
)

// planMessage says want to a peer that was last told base: as a difference, or whole where
// base is nothing, another cluster's, or so different that the whole is shorter.
func planMessage(base, want announcement.Set) *pb.Plan {
	if base.Stamp.IsZero() || base.Cluster != want.Cluster {
		return planSnapshot(want)
	}
	difference := planDifference(base, want)
	said := len(difference.Announcements) + len(difference.Withdrawn) + len(difference.Peers) + len(difference.WithdrawnPeers) +
		len(difference.Routes) + len(difference.WithdrawnRoutes)
	if said > want.Announcements.Len()+len(want.Sight.Peers)+len(want.BGP.Routes) {
		return planSnapshot(want)
	}
	return difference
}

func planSnapshot(set announcement.Set) *pb.Plan {
	plan := &pb.Plan{Cluster: set.Cluster, Stamp: encodeStamp(set.Stamp), Snapshot: true}
	plan.Announcements = make([]*pb.Announcement, 0, set.Announcements.Len())
	for a := range set.Announcements.All() {
		plan.Announcements = append(plan.Announcements, encodeAnnouncement(a))
	}
	sightSnapshot(plan, set.Sight)
	plan.Health = encodeHealth(set.Health)
	plan.Pacing = encodePacing(set.Pacing)
	plan.Probing = encodeProbing(set.Probing)
	bgpSnapshot(plan, set.BGP)
	return plan
}

// planDifference announces what is new or changed and withdraws what is gone.
func planDifference(base, want announcement.Set) *pb.Plan {
	plan := &pb.Plan{Cluster: want.Cluster, Stamp: encodeStamp(want.Stamp), Base: encodeStamp(base.Stamp)}
	for address, a := range announcement.Changes(base.Announcements, want.Announcements) {
		if a == nil {
			plan.Withdrawn = append(plan.Withdrawn, address.AsSlice())
		} else {
			plan.Announcements = append(plan.Announcements, encodeAnnouncement(*a))
		}
	}
	sightDifference(plan, base.Sight, want.Sight)
	if base.Health != want.Health {
		plan.Health = encodeHealth(want.Health)
	}
	if base.Pacing != want.Pacing {
		plan.Pacing = encodePacing(want.Pacing)
	}
	if !base.Probing.Equal(want.Probing) {
		plan.Probing = encodeProbing(want.Probing)
	}
	bgpDifference(plan, base.BGP, want.BGP)
	return plan
}

func encodeAnnouncement(a announcement.Announcement) *pb.Announcement {
	return &pb.Announcement{
		Address:    a.Address.AsSlice(),
		Stamp:      encodeStamp(a.Stamp),
		Candidates: a.Candidates,
		Interface:  a.Interface,
		HealthPort: uint32(a.HealthPort),
		Former:     a.Former,
		Proofs:     a.Proofs,
	}
}

func encodeHealth(h announcement.Health) *pb.Health {
	return &pb.Health{Proxy: h.Proxy, UnwellAfterMs: uint64(h.UnwellAfter / time.Millisecond)} //nolint:gosec // never negative
}
