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
	report.Claims = make([]*pb.Claim, 0, r.Claims.Len())
	for c := range r.Claims.All() {
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
	for address, c := range announcement.Changes(base.Claims, want.Claims) {
		if c == nil {
			report.Ended = append(report.Ended, address.AsSlice())
		} else {
			report.Claims = append(report.Claims, encodeClaim(*c))
		}
	}
	if !slices.EqualFunc(base.Interfaces, want.Interfaces, announcement.Interface.Equal) {
		report.Interfaces, report.InterfacesChanged = encodeInterfaces(want.Interfaces), true
	}
	if len(report.Claims)+len(report.Ended) == 0 && !report.InterfacesChanged && equalFrame(base, want) {
		return nil
	}
	return report
}

// reportFrame encodes the parts that every report carries whole.
func reportFrame(r announcement.Report) *pb.Report {
	report := &pb.Report{
		Plan: encodeStamp(r.Plan), Highest: encodeStamp(r.Highest), Cluster: r.Cluster, Down: r.Down, Unwell: r.Unwell,
		BgpPlan: encodeStamp(r.BGP.Plan), BgpSessions: encodeSessions(r.BGP.Sessions), BgpWithheld: encodePrefixes(r.BGP.Withheld),
		Probed: encodeStamp(r.Probed), Findings: encodeFindings(r.Findings), Implausible: encodeStamp(r.Implausible),
	}
	for _, p := range r.Problems {
		report.Problems = append(report.Problems, &pb.Problem{
			Address: p.Address.AsSlice(), Reason: string(p.Reason), Message: p.Message,
		})
	}
	return report
}

func equalFrame(a, b announcement.Report) bool {
	return a.Plan == b.Plan && a.Highest == b.Highest && a.Implausible == b.Implausible && a.Cluster == b.Cluster && a.Unwell == b.Unwell &&
		slices.Equal(a.Problems, b.Problems) && slices.Equal(a.Down, b.Down) &&
		a.BGP.Plan == b.BGP.Plan && slices.Equal(a.BGP.Sessions, b.BGP.Sessions) && slices.Equal(a.BGP.Withheld, b.BGP.Withheld) &&
		a.Probed == b.Probed && slices.Equal(a.Findings, b.Findings)
}

func encodeClaim(c announcement.Claim) *pb.Claim {
	return &pb.Claim{Address: c.Address.AsSlice(), Stamp: encodeStamp(c.Stamp)}
}

func encodeInterfaces(interfaces []announcement.Interface) []*pb.Interface {
	var list []*pb.Interface
	for _, i := range interfaces {
		p := &pb.Interface{Name: i.Name, Mac: i.MAC, Down: i.Down, NoIpv4: i.NoIPv4, NoIpv6: i.NoIPv6, Ports: i.Ports}
		for _, prefix := range i.Prefixes {
			p.Prefixes = append(p.Prefixes, prefix.String())
		}
		for _, d := range i.Destinations {
			p.Destinations = append(p.Destinations, &pb.Destination{Prefix: d.Prefix.String(), OnLink: d.OnLink})
		}
		list = append(list, p)
	}
	return list
}
