package control

import (
	"slices"
	"time"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
)

// sightSnapshot writes the whole of s into plan.
func sightSnapshot(plan *pb.Plan, s announcement.Sight) {
	plan.Sight = encodeSight(s)
	for _, p := range s.Peers {
		plan.Peers = append(plan.Peers, encodePeer(p))
	}
}

// sightDifference writes into plan what want says differently from base: timing and key as a
// whole, and the peers one by one, both lists being sorted by name.
func sightDifference(plan *pb.Plan, base, want announcement.Sight) {
	if base.TransmitInterval != want.TransmitInterval || base.DetectMultiplier != want.DetectMultiplier || base.ProofKey != want.ProofKey {
		plan.Sight = encodeSight(want)
	}
	have := base.Peers
	for _, p := range want.Peers {
		for len(have) > 0 && have[0].Node < p.Node {
			plan.WithdrawnPeers = append(plan.WithdrawnPeers, have[0].Node)
			have = have[1:]
		}
		if len(have) > 0 && have[0].Node == p.Node {
			same := have[0].Equal(p)
			have = have[1:]
			if same {
				continue
			}
		}
		plan.Peers = append(plan.Peers, encodePeer(p))
	}
	for _, p := range have {
		plan.WithdrawnPeers = append(plan.WithdrawnPeers, p.Node)
	}
}

// encodeSight encodes the timing, which may be none.
func encodeSight(s announcement.Sight) *pb.Sight {
	out := &pb.Sight{
		TransmitIntervalUs: uint64(s.TransmitInterval / time.Microsecond), //nolint:gosec // never negative
		DetectMultiplier:   uint32(s.DetectMultiplier),                    //nolint:gosec // at most maxDetectMultiplier
	}
	if s.ProofKey != (announcement.Key{}) {
		out.ProofKey = slices.Clone(s.ProofKey[:])
	}
	return out
}

func encodePeer(p announcement.Peer) *pb.Peer {
	out := &pb.Peer{Node: p.Node, Interfaces: encodeInterfaces(p.Interfaces), Key: slices.Clone(p.Key[:])}
	for _, a := range p.Addresses {
		out.Addresses = append(out.Addresses, a.AsSlice())
	}
	return out
}
