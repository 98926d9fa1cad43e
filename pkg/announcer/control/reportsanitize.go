package control

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// sanitizeReport returns a copy of r, which shares nothing that a caller writes to, in the form
// that the channel carries: sorted, texts and lists within their bounds. What has no address is
// left out.
func sanitizeReport(r plan.Report) (normal plan.Report, cut []string) {
	r.Cluster = boundText(r.Cluster, maxName)
	r.Claims = r.Claims.Without(netip.Addr{})
	if over := r.Claims.Len() - maxAssignments; over > 0 {
		cut = append(cut, fmt.Sprintf("%d claims above %d", over, maxAssignments))
	}
	for r.Claims.Len() > maxAssignments {
		r.Claims = r.Claims.Without(r.Claims.Nth(maxAssignments).Address)
	}
	r.Problems = sanitizeProblems(r.Problems)
	var left string
	if r.Interfaces, left = sanitizeInterfaces(r.Interfaces); left != "" {
		cut = append(cut, left)
	}
	r.Down = sanitizeNames(r.Down)
	r.Findings = sanitizeFindings(r.Findings)
	r.BGP.Sessions = sanitizeSessions(r.BGP.Sessions)
	r.BGP.Withheld = sanitizePrefixes(r.BGP.Withheld)
	return r, cut
}

func sanitizeNames(names []string) []string {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return checkName("node", name) != nil })
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), maxPeers)]
}

func sanitizeProblems(problems []plan.Problem) []plan.Problem {
	problems = slices.DeleteFunc(slices.Clone(problems), func(p plan.Problem) bool { return !p.Address.IsValid() })
	slices.SortStableFunc(problems, func(a, b plan.Problem) int { return a.Address.Compare(b.Address) })
	problems = problems[:min(len(problems), maxProblems)]
	for i := range problems {
		problems[i].Reason = reason.Reason(boundText(string(problems[i].Reason), maxReason))
		problems[i].Message = boundText(problems[i].Message, maxMessage)
	}
	return problems
}

// sanitizeInterfaces keeps within the bounds what matters most. cut says what it left out.
func sanitizeInterfaces(interfaces []plan.Interface) (out []plan.Interface, cut string) {
	interfaces = slices.DeleteFunc(slices.Clone(interfaces), func(i plan.Interface) bool {
		return i.Name == "" || len(i.Name) > maxInterfaceName || len(i.MAC) > maxMAC
	})
	slices.SortFunc(interfaces, func(a, b plan.Interface) int { return strings.Compare(a.Name, b.Name) })
	interfaces = slices.CompactFunc(interfaces, func(a, b plan.Interface) bool { return a.Name == b.Name })
	dropped, prefixes := max(len(interfaces)-maxInterfaces, 0), 0
	if dropped > 0 {
		slices.SortStableFunc(interfaces, func(a, b plan.Interface) int { return cmp.Compare(rankInterface(a), rankInterface(b)) })
		interfaces = interfaces[:maxInterfaces]
		slices.SortFunc(interfaces, func(a, b plan.Interface) int { return strings.Compare(a.Name, b.Name) })
	}
	for i := range interfaces {
		kept := sanitizeInterfacePrefixes(interfaces[i].Prefixes)
		prefixes += len(interfaces[i].Prefixes) - len(kept)
		interfaces[i].Prefixes = kept
		interfaces[i].Ports = sanitizePorts(interfaces[i].Ports)
		interfaces[i].Destinations = sanitizeDestinations(interfaces[i].Destinations)
	}
	if dropped+prefixes > 0 {
		cut = fmt.Sprintf("%d interfaces above %d, %d prefixes above %d of an interface", dropped, maxInterfaces, prefixes, maxPrefixes)
	}
	return interfaces, cut
}

// rankInterface orders interfaces by how much they matter: those that are up, with a default
// route, with prefixes.
func rankInterface(i plan.Interface) int {
	switch {
	case i.Down:
		return 3
	case i.IsGateway(true) || i.IsGateway(false):
		return 0
	case len(i.Prefixes) > 0:
		return 1
	}
	return 2
}

// sanitizeInterfacePrefixes keeps, of more prefixes than the channel carries, one of each
// network before a second one: networks and link-local addresses are what peers look for.
func sanitizeInterfacePrefixes(list []netip.Prefix) []netip.Prefix {
	list = slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool { return !p.IsValid() })
	if len(list) <= maxPrefixes {
		return list
	}
	seen := map[netip.Prefix]bool{}
	var first, second []netip.Prefix
	for _, p := range list {
		if masked := p.Masked(); !seen[masked] {
			seen[masked] = true
			first = append(first, p)
		} else {
			second = append(second, p)
		}
	}
	return slices.Concat(first, second)[:maxPrefixes]
}

func sanitizePorts(ports []string) []string {
	ports = slices.Clone(ports)
	slices.Sort(ports)
	ports = slices.Compact(ports)
	return ports[:min(len(ports), plan.MaxPorts)]
}

func sanitizeDestinations(list []plan.Destination) []plan.Destination {
	list = slices.DeleteFunc(slices.Clone(list), func(d plan.Destination) bool { return !d.Prefix.IsValid() })
	slices.SortFunc(list, plan.Destination.Compare)
	list = slices.Compact(list)
	return list[:min(len(list), plan.MaxDestinations)]
}
