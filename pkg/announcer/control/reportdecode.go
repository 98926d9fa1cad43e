package control

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// applyReport returns the whole report that p amounts to for a receiver that holds have,
// which it leaves as it is.
func applyReport(have plan.Report, p *pb.Report) (plan.Report, error) {
	report, claims, ended, err := decodeReport(p)
	if err != nil {
		return report, err
	}
	if p.GetSnapshot() {
		report.Claims = plan.NewIndex(claims...)
		return report, nil
	}
	if !p.GetInterfacesChanged() {
		report.Interfaces = have.Interfaces
	}
	report.Claims, err = mergeIndex(reportMerging, have.Claims, claims, ended)
	if err != nil {
		return plan.Report{}, err
	}
	return report, checkCount("report: claims", report.Claims.Len(), maxAssignments)
}

// decodeReport checks everything that can be checked without knowing what came before.
func decodeReport(p *pb.Report) (report plan.Report, claims []plan.Claim, ended []netip.Addr, err error) {
	report = plan.Report{
		Plan: decodeVersion(p.GetPlan()), Highest: decodeVersion(p.GetHighest()), Cluster: p.GetCluster(), Unhealthy: p.GetUnhealthy(),
		Probed: decodeVersion(p.GetProbed()), Implausible: decodeVersion(p.GetImplausible()),
	}
	if err := checkText("report: cluster", report.Cluster, maxName); err != nil {
		return report, nil, nil, err
	}
	if p.GetSnapshot() && len(p.GetEnded()) > 0 {
		return report, nil, nil, fmt.Errorf("report: a snapshot ends no claim")
	}
	if claims, err = decodeClaims(p.GetClaims()); err != nil {
		return report, nil, nil, err
	}
	if ended, err = decodeAddresses("report: ended", p.GetEnded()); err != nil {
		return report, nil, nil, err
	}
	if report.Problems, err = decodeProblems(p.GetProblems()); err != nil {
		return report, nil, nil, err
	}
	if report.Interfaces, err = decodeInterfaces(p.GetInterfaces()); err != nil {
		return report, nil, nil, fmt.Errorf("report: %w", err)
	}
	if report.Down, err = decodeNames("report: down", p.GetDown()); err != nil {
		return report, nil, nil, err
	}
	if report.Findings, err = decodeFindings(p.GetFindings()); err != nil {
		return report, nil, nil, err
	}
	report.BGP, err = decodeBGPReport(p)
	return report, claims, ended, err
}

func decodeClaims(list []*pb.Claim) ([]plan.Claim, error) {
	if err := checkCount("report: claims", len(list), maxAssignments); err != nil {
		return nil, err
	}
	claims := make([]plan.Claim, 0, len(list))
	var order ascending
	for i, p := range list {
		addr, err := decodeAddress(p.GetAddress())
		if err == nil {
			err = order.checkNext(addr)
		}
		if err != nil {
			return nil, fmt.Errorf("report: claim %d: %w", i, err)
		}
		claims = append(claims, plan.Claim{Address: addr, Version: decodeVersion(p.GetVersion())})
	}
	return claims, nil
}

// decodeProblems passes on Reasons that this build does not know: the node may be newer.
func decodeProblems(list []*pb.Problem) ([]plan.Problem, error) {
	if err := checkCount("report: problems", len(list), maxProblems); err != nil {
		return nil, err
	}
	problems := make([]plan.Problem, 0, len(list))
	for i, p := range list {
		problem, err := decodeProblem(p)
		if err == nil && i > 0 && problem.Address.Less(problems[i-1].Address) {
			err = fmt.Errorf("address %s comes after %s; addresses ascend", problem.Address, problems[i-1].Address)
		}
		if err != nil {
			return nil, fmt.Errorf("report: problem %d: %w", i, err)
		}
		problems = append(problems, problem)
	}
	return problems, nil
}

func decodeProblem(p *pb.Problem) (plan.Problem, error) {
	addr, err := decodeAddress(p.GetAddress())
	if err != nil {
		return plan.Problem{}, err
	}
	why, err := decodeReason(p.GetReason(), p.GetMessage())
	return plan.Problem{Address: addr, Reason: why, Message: p.GetMessage()}, err
}

// decodeReason checks a Reason with its message.
func decodeReason(why, message string) (reason.Reason, error) {
	if err := checkText("reason", why, maxReason); err != nil {
		return "", err
	}
	if i := strings.IndexFunc(why, notAlphanumeric); i >= 0 {
		return "", fmt.Errorf("reason %q: only letters and digits make a reason", why)
	}
	return reason.Reason(why), checkText("message", message, maxMessage)
}

func notAlphanumeric(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

func decodeInterfaces(list []*pb.Interface) ([]plan.Interface, error) {
	if err := checkCount("interfaces", len(list), maxInterfaces); err != nil {
		return nil, err
	}
	interfaces := make([]plan.Interface, 0, len(list))
	for i, p := range list {
		decoded, err := decodeInterface(p)
		if err == nil && i > 0 && interfaces[i-1].Name >= decoded.Name {
			err = fmt.Errorf("%q comes after %q; names ascend and each comes once", decoded.Name, interfaces[i-1].Name)
		}
		if err != nil {
			return nil, fmt.Errorf("interface %d: %w", i, err)
		}
		interfaces = append(interfaces, decoded)
	}
	return interfaces, nil
}

func decodeInterface(p *pb.Interface) (plan.Interface, error) {
	decoded := plan.Interface{Name: p.GetName(), MAC: p.GetMac(), NoIPv4: p.GetNoIpv4(), NoIPv6: p.GetNoIpv6(), Down: p.GetDown()}
	if err := checkName("name", decoded.Name); err != nil {
		return decoded, err
	}
	if err := checkText("name", decoded.Name, maxInterfaceName); err != nil {
		return decoded, err
	}
	if err := checkText("hardware address", decoded.MAC, maxMAC); err != nil {
		return decoded, err
	}
	if decoded.MAC != "" {
		if _, err := net.ParseMAC(decoded.MAC); err != nil {
			return decoded, fmt.Errorf("hardware address: %w", err)
		}
	}
	if err := checkCount("prefixes", len(p.GetPrefixes()), maxPrefixes); err != nil {
		return decoded, err
	}
	for _, text := range p.GetPrefixes() {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return decoded, err
		}
		decoded.Prefixes = append(decoded.Prefixes, prefix)
	}
	var err error
	if decoded.Ports, err = decodePorts(p.GetPorts()); err != nil {
		return decoded, err
	}
	decoded.Destinations, err = decodeDestinations(p.GetDestinations())
	return decoded, err
}

// decodePorts decodes hardware addresses in strictly increasing order.
func decodePorts(list []string) ([]string, error) {
	if err := checkCount("ports", len(list), plan.MaxPorts); err != nil {
		return nil, err
	}
	for i, text := range list {
		mac, err := net.ParseMAC(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("hardware address of a port: %w", err)
		case mac.String() != text || i > 0 && list[i-1] >= text:
			return nil, fmt.Errorf("hardware address %q of a port: they ascend in canonical form, each once", text)
		}
	}
	return list, nil
}

// decodeDestinations decodes destinations in strictly increasing order.
func decodeDestinations(list []*pb.Destination) ([]plan.Destination, error) {
	if err := checkCount("destinations", len(list), plan.MaxDestinations); err != nil {
		return nil, err
	}
	var out []plan.Destination
	for i, d := range list {
		prefix, err := netip.ParsePrefix(d.GetPrefix())
		if err != nil {
			return nil, err
		}
		next := plan.Destination{Prefix: prefix, OnLink: d.GetOnLink()}
		switch {
		case prefix != prefix.Masked() || prefix.Addr().Is4In6():
			return nil, fmt.Errorf("destination %s has host bits or is an IPv4-mapped one", prefix)
		case i > 0 && out[i-1].Compare(next) >= 0:
			return nil, fmt.Errorf("destination %s comes after %s; they ascend and each comes once", prefix, out[i-1].Prefix)
		}
		out = append(out, next)
	}
	return out, nil
}
