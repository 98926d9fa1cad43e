package control

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/reason"
)

// normalReport returns a copy of r, which shares nothing that anybody writes to, in the form
// that the channel carries: sorted, texts and lists within their bounds. What has no
// address is left out.
func normalReport(r announcement.Report) (normal announcement.Report, cut []string) {
	r.Cluster = boundText(r.Cluster, maxName)
	r.Claims = r.Claims.Without(netip.Addr{})
	if over := r.Claims.Len() - maxAnnouncements; over > 0 {
		cut = append(cut, fmt.Sprintf("%d claims above %d", over, maxAnnouncements))
	}
	for r.Claims.Len() > maxAnnouncements {
		r.Claims = r.Claims.Without(r.Claims.Nth(maxAnnouncements).Address)
	}
	r.Problems = normalProblems(r.Problems)
	var left string
	if r.Interfaces, left = normalInterfaces(r.Interfaces); left != "" {
		cut = append(cut, left)
	}
	r.Down = normalNames(r.Down)
	r.Findings = normalFindings(r.Findings)
	r.BGP.Sessions = normalSessions(r.BGP.Sessions)
	r.BGP.Withheld = normalPrefixes(r.BGP.Withheld)
	return r, cut
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

// normalInterfaces keeps within the bounds what matters most. cut says what it left out.
func normalInterfaces(interfaces []announcement.Interface) (out []announcement.Interface, cut string) {
	interfaces = slices.DeleteFunc(slices.Clone(interfaces), func(i announcement.Interface) bool {
		return i.Name == "" || len(i.Name) > maxInterfaceName || len(i.MAC) > maxMAC
	})
	slices.SortFunc(interfaces, func(a, b announcement.Interface) int { return strings.Compare(a.Name, b.Name) })
	interfaces = slices.CompactFunc(interfaces, func(a, b announcement.Interface) bool { return a.Name == b.Name })
	dropped, prefixes := max(len(interfaces)-maxInterfaces, 0), 0
	if dropped > 0 {
		slices.SortStableFunc(interfaces, func(a, b announcement.Interface) int { return cmp.Compare(rankInterface(a), rankInterface(b)) })
		interfaces = interfaces[:maxInterfaces]
		slices.SortFunc(interfaces, func(a, b announcement.Interface) int { return strings.Compare(a.Name, b.Name) })
	}
	for i := range interfaces {
		kept := normalInterfacePrefixes(interfaces[i].Prefixes)
		prefixes += len(interfaces[i].Prefixes) - len(kept)
		interfaces[i].Prefixes = kept
		interfaces[i].Ports = normalPorts(interfaces[i].Ports)
		interfaces[i].Destinations = normalDestinations(interfaces[i].Destinations)
	}
	if dropped+prefixes > 0 {
		cut = fmt.Sprintf("%d interfaces above %d, %d prefixes above %d of an interface", dropped, maxInterfaces, prefixes, maxPrefixes)
	}
	return interfaces, cut
}

// rankInterface orders interfaces by how much they matter: those that are up, with a default
// route, with prefixes.
func rankInterface(i announcement.Interface) int {
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

// normalInterfacePrefixes keeps, of more prefixes than the channel carries, one of each
// network before a second one: networks and link-local addresses are what peers look for.
func normalInterfacePrefixes(list []netip.Prefix) []netip.Prefix {
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

func normalPorts(ports []string) []string {
	ports = slices.Clone(ports)
	slices.Sort(ports)
	ports = slices.Compact(ports)
	return ports[:min(len(ports), announcement.MaxPorts)]
}

func normalDestinations(list []announcement.Destination) []announcement.Destination {
	list = slices.DeleteFunc(slices.Clone(list), func(d announcement.Destination) bool { return !d.Prefix.IsValid() })
	slices.SortFunc(list, announcement.Destination.Compare)
	list = slices.Compact(list)
	return list[:min(len(list), announcement.MaxDestinations)]
}
