package control

import (
	"slices"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
)

// reportSnapshot says the whole of a normal report.
func reportSnapshot(r announcement.Report) *pb.Report {
	report := reportFrame(r)
	report.Snapshot = true
	report.Claims = make([]*pb.Claim, 0, len(r.Claims))
	for _, c := range r.Claims {
		report.Claims = append(report.Claims, encodeClaim(c))
	}
	report.Interfaces = encodeInterfaces(r.Interfaces)
	report.InterfacesChanged = true
	return report
}

// reportDifference says want to a peer that was last told base, both normal. It is nil
// where they say the same.
func reportDifference(base, want announcement.Report) *pb.Report {
	report := reportFrame(want)
	have := base.Claims
	for _, c := range want.Claims {
		for len(have) > 0 && have[0].Address.Less(c.Address) {
			report.Ended = append(report.Ended, have[0].Address.AsSlice())
			have = have[1:]
		}
		if len(have) > 0 && have[0].Address == c.Address {
			same := have[0] == c
			have = have[1:]
			if same {
				continue
			}
		}
		report.Claims = append(report.Claims, encodeClaim(c))
	}
	for _, c := range have {
		report.Ended = append(report.Ended, c.Address.AsSlice())
	}
	if !slices.EqualFunc(base.Interfaces, want.Interfaces, equalInterface) {
		report.Interfaces, report.InterfacesChanged = encodeInterfaces(want.Interfaces), true
	}
	if len(report.Claims)+len(report.Ended) == 0 && !report.InterfacesChanged && equalFrame(base, want) {
		return nil
	}
	return report
}

// reportFrame encodes the parts that every report carries whole.
func reportFrame(r announcement.Report) *pb.Report {
	report := &pb.Report{Plan: encodeStamp(r.Plan), Highest: encodeStamp(r.Highest), Cluster: r.Cluster, Down: r.Down, Unwell: r.Unwell}
	for _, p := range r.Problems {
		report.Problems = append(report.Problems, &pb.Problem{
			Address: p.Address.AsSlice(), Reason: string(p.Reason), Message: p.Message,
		})
	}
	return report
}

func equalFrame(a, b announcement.Report) bool {
	return a.Plan == b.Plan && a.Highest == b.Highest && a.Cluster == b.Cluster && a.Unwell == b.Unwell &&
		slices.Equal(a.Problems, b.Problems) && slices.Equal(a.Down, b.Down)
}

func equalInterface(a, b announcement.Interface) bool {
	return a.Name == b.Name && a.MAC == b.MAC && a.Default == b.Default && a.Down == b.Down && slices.Equal(a.Prefixes, b.Prefixes)
}

func encodeClaim(c announcement.Claim) *pb.Claim {
	return &pb.Claim{Address: c.Address.AsSlice(), Stamp: encodeStamp(c.Stamp)}
}

func encodeInterfaces(interfaces []announcement.Interface) []*pb.Interface {
	var list []*pb.Interface
	for _, i := range interfaces {
		p := &pb.Interface{Name: i.Name, Mac: i.MAC, DefaultRoute: i.Default, Down: i.Down}
		for _, prefix := range i.Prefixes {
			p.Prefixes = append(p.Prefixes, prefix.String())
		}
		list = append(list, p)
	}
	return list
}
