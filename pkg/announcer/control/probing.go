package control

import (
	"fmt"
	"net"
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
)

func encodeProbing(p announcement.Probing) *pb.Probing {
	out := &pb.Probing{Stamp: encodeStamp(p.Stamp), IntervalMs: uint64(p.Interval / time.Millisecond)} //nolint:gosec // never negative
	for _, probe := range p.Probes {
		out.Probes = append(out.Probes, &pb.Probe{Address: probe.Address.AsSlice(), Interface: probe.Interface})
	}
	return out
}

func decodeProbing(p *pb.Probing) (announcement.Probing, error) {
	if p.GetIntervalMs() > uint64(maxProbeInterval/time.Millisecond) {
		return announcement.Probing{}, fmt.Errorf("plan: probing: an interval of %d ms; the limit is %s", p.GetIntervalMs(), maxProbeInterval)
	}
	out := announcement.Probing{Stamp: decodeStamp(p.GetStamp()), Interval: time.Duration(p.GetIntervalMs()) * time.Millisecond}
	if err := checkCount("plan: probing", len(p.GetProbes()), maxProbes); err != nil {
		return announcement.Probing{}, err
	}
	if out.Interval == 0 && len(p.GetProbes()) > 0 {
		return announcement.Probing{}, fmt.Errorf("plan: probing: no interval")
	}
	var order ascending
	for i, probe := range p.GetProbes() {
		address, err := decodeAddress(probe.GetAddress())
		if err == nil {
			err = order.next(address)
		}
		if err == nil {
			err = checkText("interface", probe.GetInterface(), maxName)
		}
		if err != nil {
			return announcement.Probing{}, fmt.Errorf("plan: probe %d: %w", i, err)
		}
		out.Probes = append(out.Probes, announcement.Probe{Address: address, Interface: probe.GetInterface()})
	}
	return out, nil
}

func encodeFindings(findings []announcement.Finding) []*pb.Finding {
	var out []*pb.Finding
	for _, f := range findings {
		out = append(out, &pb.Finding{Address: f.Address.AsSlice(), Mac: f.MAC, Interface: f.Interface, Since: f.Since})
	}
	return out
}

func decodeFindings(list []*pb.Finding) ([]announcement.Finding, error) {
	if err := checkCount("report: findings", len(list), maxFindings); err != nil {
		return nil, err
	}
	var out []announcement.Finding
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

func decodeFinding(p *pb.Finding) (announcement.Finding, error) {
	address, err := decodeAddress(p.GetAddress())
	if err != nil {
		return announcement.Finding{}, err
	}
	f := announcement.Finding{Address: address, MAC: p.GetMac(), Interface: p.GetInterface(), Since: p.GetSince()}
	// It is a metric's and an Event's word: one machine must have one name.
	if mac, err := net.ParseMAC(f.MAC); err != nil || mac.String() != f.MAC {
		return announcement.Finding{}, fmt.Errorf("hardware address %q is not in its canonical form", boundText(f.MAC, maxReason))
	}
	return f, checkName("interface", f.Interface)
}

// normalFindings returns findings as the channel carries them.
func normalFindings(findings []announcement.Finding) []announcement.Finding {
	findings = slices.DeleteFunc(slices.Clone(findings), func(f announcement.Finding) bool {
		return !f.Address.IsValid() || f.MAC == "" || checkName("interface", f.Interface) != nil
	})
	slices.SortFunc(findings, announcement.Finding.Compare)
	findings = slices.CompactFunc(findings, func(f, g announcement.Finding) bool { return f.Compare(g) == 0 })
	return findings[:min(len(findings), maxFindings)]
}
