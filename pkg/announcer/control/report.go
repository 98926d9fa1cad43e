package control

import (
	"slices"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// reportSnapshot says the whole of a normal report.
func reportSnapshot(r plan.Report) *pb.Report {
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

// reportDelta says want to a peer that was last told base, both normal. It is nil
// where they say the same.
func reportDelta(base, want plan.Report) *pb.Report {
	report := reportFrame(want)
	for address, c := range plan.Delta(base.Claims, want.Claims) {
		if c == nil {
			report.Ended = append(report.Ended, address.AsSlice())
		} else {
			report.Claims = append(report.Claims, encodeClaim(*c))
		}
	}
	if !slices.EqualFunc(base.Interfaces, want.Interfaces, plan.Interface.Equal) {
		report.Interfaces, report.InterfacesChanged = encodeInterfaces(want.Interfaces), true
	}
	if len(report.Claims)+len(report.Ended) == 0 && !report.InterfacesChanged && equalFrame(base, want) {
		return nil
	}
	return report
}

// reportFrame encodes the parts that every report carries whole.
func reportFrame(r plan.Report) *pb.Report {
	report := &pb.Report{
		Plan: encodeVersion(r.Plan), Highest: encodeVersion(r.Highest), Cluster: r.Cluster, Down: r.Down, Unhealthy: r.Unhealthy,
		BgpPlan: encodeVersion(r.BGP.Plan), BgpSessions: encodeSessions(r.BGP.Sessions), BgpWithheld: encodePrefixes(r.BGP.Withheld),
		Probed: encodeVersion(r.Probed), Findings: encodeFindings(r.Findings), Implausible: encodeVersion(r.Implausible),
	}
	for _, p := range r.Problems {
		report.Problems = append(report.Problems, &pb.Problem{
			Address: p.Address.AsSlice(), Reason: string(p.Reason), Message: p.Message,
		})
	}
	return report
}

func equalFrame(a, b plan.Report) bool {
	return a.Plan == b.Plan && a.Highest == b.Highest && a.Implausible == b.Implausible && a.Cluster == b.Cluster && a.Unhealthy == b.Unhealthy &&
		slices.Equal(a.Problems, b.Problems) && slices.Equal(a.Down, b.Down) &&
		a.BGP.Plan == b.BGP.Plan && slices.Equal(a.BGP.Sessions, b.BGP.Sessions) && slices.Equal(a.BGP.Withheld, b.BGP.Withheld) &&
		a.Probed == b.Probed && slices.Equal(a.Findings, b.Findings)
}

func encodeClaim(c plan.Claim) *pb.Claim {
	return &pb.Claim{Address: c.Address.AsSlice(), Version: encodeVersion(c.Version)}
}

func encodeInterfaces(interfaces []plan.Interface) []*pb.Interface {
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
