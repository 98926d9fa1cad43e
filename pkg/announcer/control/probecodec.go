package control

import (
	"fmt"
	"net"
	"slices"
	"time"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

func encodeProbing(p plan.Probing) *pb.Probing {
	out := &pb.Probing{Version: encodeVersion(p.Version), IntervalMs: uint64(p.Interval / time.Millisecond)} //nolint:gosec // never negative
	for _, probe := range p.Probes {
		out.Probes = append(out.Probes, &pb.Probe{Address: probe.Address.AsSlice(), Interface: probe.Interface})
	}
	return out
}

func decodeProbing(p *pb.Probing) (plan.Probing, error) {
	if p.GetIntervalMs() > uint64(maxProbeInterval/time.Millisecond) {
		return plan.Probing{}, fmt.Errorf("plan: probing: an interval of %d ms; the limit is %s", p.GetIntervalMs(), maxProbeInterval)
	}
	out := plan.Probing{Version: decodeVersion(p.GetVersion()), Interval: time.Duration(p.GetIntervalMs()) * time.Millisecond}
	if err := checkCount("plan: probing", len(p.GetProbes()), maxProbes); err != nil {
		return plan.Probing{}, err
	}
	if out.Interval == 0 && len(p.GetProbes()) > 0 {
		return plan.Probing{}, fmt.Errorf("plan: probing: no interval")
	}
	var order ascending
	for i, probe := range p.GetProbes() {
		address, err := decodeAddress(probe.GetAddress())
		if err == nil {
			err = order.checkNext(address)
		}
		if err == nil {
			err = checkText("interface", probe.GetInterface(), maxName)
		}
		if err != nil {
			return plan.Probing{}, fmt.Errorf("plan: probe %d: %w", i, err)
		}
		out.Probes = append(out.Probes, plan.Probe{Address: address, Interface: probe.GetInterface()})
	}
	return out, nil
}

func encodeFindings(findings []plan.Finding) []*pb.Finding {
	var out []*pb.Finding
	for _, f := range findings {
		out = append(out, &pb.Finding{Address: f.Address.AsSlice(), Mac: f.MAC, Interface: f.Interface, Since: f.Since})
	}
	return out
}

func decodeFindings(list []*pb.Finding) ([]plan.Finding, error) {
	if err := checkCount("report: findings", len(list), maxFindings); err != nil {
		return nil, err
	}
	var out []plan.Finding
	for i, p := range list {
		f, err := decodeFinding(p)
		if err == nil && i > 0 && out[i-1].Compare(f) >= 0 {
			err = fmt.Errorf("%s at %s comes after %s at %s; findings ascend and each comes once", f.Address, f.MAC, out[i-1].Address, out[i-1].MAC)
		}
		if err != nil {
			return nil, fmt.Errorf("report: finding %d: %w", i, err)
		}
		out = append(out, f)
	}
	return out, nil
}

func decodeFinding(p *pb.Finding) (plan.Finding, error) {
	address, err := decodeAddress(p.GetAddress())
	if err != nil {
		return plan.Finding{}, err
	}
	f := plan.Finding{Address: address, MAC: p.GetMac(), Interface: p.GetInterface(), Since: p.GetSince()}
	// It is a metric's and an Event's word: one machine must have one name.
	if mac, err := net.ParseMAC(f.MAC); err != nil || mac.String() != f.MAC {
		return plan.Finding{}, fmt.Errorf("hardware address %q is not in its canonical form", boundText(f.MAC, maxReason))
	}
	return f, checkName("interface", f.Interface)
}

// sanitizeFindings returns findings as the channel carries them.
func sanitizeFindings(findings []plan.Finding) []plan.Finding {
	findings = slices.DeleteFunc(slices.Clone(findings), func(f plan.Finding) bool {
		return !f.Address.IsValid() || f.MAC == "" || checkName("interface", f.Interface) != nil
	})
	slices.SortFunc(findings, plan.Finding.Compare)
	findings = slices.CompactFunc(findings, func(f, g plan.Finding) bool { return f.Compare(g) == 0 })
	return findings[:min(len(findings), maxFindings)]
}
