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
	said := len(difference.Announcements) + len(difference.Withdrawn) + len(difference.Peers) + len(difference.WithdrawnPeers)
	if said > len(want.Announcements)+len(want.Sight.Peers) {
		return planSnapshot(want)
	}
	return difference
}

func planSnapshot(set announcement.Set) *pb.Plan {
	plan := &pb.Plan{Cluster: set.Cluster, Stamp: encodeStamp(set.Stamp), Snapshot: true}
	plan.Announcements = make([]*pb.Announcement, 0, len(set.Announcements))
	for _, a := range set.Announcements {
		plan.Announcements = append(plan.Announcements, encodeAnnouncement(a))
	}
	sightSnapshot(plan, set.Sight)
	plan.Health = encodeHealth(set.Health)
	return plan
}

// planDifference merges two sorted lists: what is new or changed is announced, what is
// gone is withdrawn.
func planDifference(base, want announcement.Set) *pb.Plan {
	plan := &pb.Plan{Cluster: want.Cluster, Stamp: encodeStamp(want.Stamp), Base: encodeStamp(base.Stamp)}
	have := base.Announcements
	for _, a := range want.Announcements {
		for len(have) > 0 && have[0].Address.Less(a.Address) {
			plan.Withdrawn = append(plan.Withdrawn, have[0].Address.AsSlice())
			have = have[1:]
		}
		if len(have) > 0 && have[0].Address == a.Address {
			same := have[0].Equal(a)
			have = have[1:]
			if same {
				continue
			}
		}
		plan.Announcements = append(plan.Announcements, encodeAnnouncement(a))
	}
	for _, a := range have {
		plan.Withdrawn = append(plan.Withdrawn, a.Address.AsSlice())
	}
	sightDifference(plan, base.Sight, want.Sight)
	if base.Health != want.Health {
		plan.Health = encodeHealth(want.Health)
	}
	return plan
}

func encodeAnnouncement(a announcement.Announcement) *pb.Announcement {
	return &pb.Announcement{
		Address:    a.Address.AsSlice(),
		Stamp:      encodeStamp(a.Stamp),
		Candidates: a.Candidates,
		Interface:  a.Interface,
		HealthPort: uint32(a.HealthPort),
	}
}

func encodeHealth(h announcement.Health) *pb.Health {
	return &pb.Health{Proxy: h.Proxy, UnwellAfterMs: uint64(h.UnwellAfter / time.Millisecond)} //nolint:gosec // never negative
}
