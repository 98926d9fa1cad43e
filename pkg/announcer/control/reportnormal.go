package control

import (
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/reason"
)

// normalReport returns a copy of r, which shares nothing that anybody writes to, in the form
// that the channel carries: sorted, texts and lists within their bounds. What has no
// address is left out.
func normalReport(r announcement.Report) announcement.Report {
	r.Cluster = boundText(r.Cluster, maxName)
	r.Claims = r.Claims.Without(netip.Addr{})
	for r.Claims.Len() > maxAnnouncements {
		r.Claims = r.Claims.Without(r.Claims.Nth(maxAnnouncements).Address)
	}
	r.Problems = normalProblems(r.Problems)
	r.Interfaces = normalInterfaces(r.Interfaces)
	r.Down = normalNames(r.Down)
	r.Findings = normalFindings(r.Findings)
	r.BGP.Sessions = normalSessions(r.BGP.Sessions)
	r.BGP.Withheld = normalPrefixes(r.BGP.Withheld)
	return r
}

func normalNames(names []string) []string {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return checkName("node", name) != nil })
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), maxPeers)]
}

func normalProblems(problems []announcement.Problem) []announcement.Problem {
	problems = slices.DeleteFunc(slices.Clone(problems), func(p announcement.Problem) bool { return !p.Address.IsValid() })
	slices.SortStableFunc(problems, func(a, b announcement.Problem) int { return a.Address.Compare(b.Address) })
	problems = problems[:min(len(problems), maxProblems)]
	for i := range problems {
		problems[i].Reason = reason.Reason(boundText(string(problems[i].Reason), maxReason))
		problems[i].Message = boundText(problems[i].Message, maxMessage)
	}
	return problems
}

func normalInterfaces(interfaces []announcement.Interface) []announcement.Interface {
	interfaces = slices.Clone(interfaces)
	for i := range interfaces {
		interfaces[i].Name = boundText(interfaces[i].Name, maxName)
		prefixes := slices.DeleteFunc(slices.Clone(interfaces[i].Prefixes), func(p netip.Prefix) bool { return !p.IsValid() })
		interfaces[i].Prefixes = prefixes[:min(len(prefixes), maxPrefixes)]
	}
	slices.SortFunc(interfaces, func(a, b announcement.Interface) int { return strings.Compare(a.Name, b.Name) })
	interfaces = slices.CompactFunc(interfaces, func(a, b announcement.Interface) bool { return a.Name == b.Name })
	return interfaces[:min(len(interfaces), maxInterfaces)]
}
