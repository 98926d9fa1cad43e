package control

import (
	"slices"
	"time"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// failoverSnapshot writes the whole of s into plan.
func failoverSnapshot(nodePlan *pb.Plan, s plan.Failover) {
	nodePlan.Failover = encodeFailover(s)
	for _, p := range s.Peers {
		nodePlan.Peers = append(nodePlan.Peers, encodePeer(p))
	}
}

// failoverDelta writes into plan what want says differently from base: timing and key as a
// whole, and the peers one by one, both lists being sorted by name.
func failoverDelta(nodePlan *pb.Plan, base, want plan.Failover) {
	if base.TransmitInterval != want.TransmitInterval || base.DetectMultiplier != want.DetectMultiplier || base.ProofKey != want.ProofKey {
		nodePlan.Failover = encodeFailover(want)
	}
	have := base.Peers
	for _, p := range want.Peers {
		for len(have) > 0 && have[0].Node < p.Node {
			nodePlan.WithdrawnPeers = append(nodePlan.WithdrawnPeers, have[0].Node)
			have = have[1:]
		}
		if len(have) > 0 && have[0].Node == p.Node {
			same := have[0].Equal(p)
			have = have[1:]
			if same {
				continue
			}
		}
		nodePlan.Peers = append(nodePlan.Peers, encodePeer(p))
	}
	for _, p := range have {
		nodePlan.WithdrawnPeers = append(nodePlan.WithdrawnPeers, p.Node)
	}
}

// encodeFailover encodes the timing, which may be none.
func encodeFailover(s plan.Failover) *pb.Failover {
	out := &pb.Failover{
		TransmitIntervalUs: uint64(s.TransmitInterval / time.Microsecond), //nolint:gosec // never negative
		DetectMultiplier:   uint32(s.DetectMultiplier),                    //nolint:gosec // at most maxDetectMultiplier
	}
	if s.ProofKey != (plan.Key{}) {
		out.ProofKey = slices.Clone(s.ProofKey[:])
	}
	return out
}

func encodePeer(p plan.Peer) *pb.Peer {
	out := &pb.Peer{Node: p.Node, Interfaces: encodeInterfaces(p.Interfaces), Key: slices.Clone(p.Key[:])}
	for _, a := range p.Addresses {
		out.Addresses = append(out.Addresses, a.AsSlice())
	}
	return out
}
