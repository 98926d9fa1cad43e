package control

import (
	"fmt"
	"time"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// decodeFailover decodes what p says of failover: the timing, which is zero where it is not
// said, the peers, and the names of those withdrawn, both in strictly increasing order.
func decodeFailover(p *pb.Plan) (s plan.Failover, withdrawn []string, err error) {
	if s.TransmitInterval, s.DetectMultiplier, err = decodeTiming(p.GetFailover()); err != nil {
		return s, nil, fmt.Errorf("plan: failover: %w", err)
	}
	if s.ProofKey, err = decodeProofKey(p.GetFailover()); err != nil {
		return s, nil, fmt.Errorf("plan: failover: %w", err)
	}
	if s.Peers, err = decodePeers(p.GetPeers()); err != nil {
		return s, nil, err
	}
	withdrawn, err = decodeNames("plan: withdrawn peers", p.GetWithdrawnPeers())
	return s, withdrawn, err
}

// decodeTiming takes both values or neither.
func decodeTiming(p *pb.Failover) (time.Duration, int, error) {
	interval, multiplier := p.GetTransmitIntervalUs(), p.GetDetectMultiplier()
	if interval > uint64(maxTransmitInterval/time.Microsecond) {
		return 0, 0, fmt.Errorf("transmit interval of %d µs; the limit is %s", interval, maxTransmitInterval)
	}
	if multiplier > maxDetectMultiplier {
		return 0, 0, fmt.Errorf("detect multiplier %d; the limit is %d", multiplier, maxDetectMultiplier)
	}
	if (interval == 0) != (multiplier == 0) {
		return 0, 0, fmt.Errorf("transmit interval of %d µs with detect multiplier %d; none is given without the other", interval, multiplier)
	}
	return time.Duration(interval) * time.Microsecond, int(multiplier), nil
}

func decodeProofKey(p *pb.Failover) (key plan.Key, err error) {
	if n := len(p.GetProofKey()); n != 0 && n != len(key) {
		return key, fmt.Errorf("proof key of %d bytes; it has %d", n, len(key))
	}
	copy(key[:], p.GetProofKey())
	return key, nil
}

func decodePeers(list []*pb.Peer) ([]plan.Peer, error) {
	if err := checkCount("plan: peers", len(list), maxPeers); err != nil {
		return nil, err
	}
	var peers []plan.Peer
	for i, p := range list {
		peer, err := decodePeer(p)
		if err == nil && i > 0 && peers[i-1].Node >= peer.Node {
			err = fmt.Errorf("%q comes after %q; names ascend and each comes once", peer.Node, peers[i-1].Node)
		}
		if err != nil {
			return nil, fmt.Errorf("plan: peer %d: %w", i, err)
		}
		peers = append(peers, peer)
	}
	return peers, nil
}

func decodePeer(p *pb.Peer) (peer plan.Peer, err error) {
	peer.Node = p.GetNode()
	if err := checkName("node", peer.Node); err != nil {
		return peer, err
	}
	if len(p.GetKey()) != len(peer.Key) {
		return peer, fmt.Errorf("key of %d bytes; it has %d", len(p.GetKey()), len(peer.Key))
	}
	copy(peer.Key[:], p.GetKey())
	if err := checkCount("addresses", len(p.GetAddresses()), maxNodeAddresses); err != nil {
		return peer, err
	}
	for i, raw := range p.GetAddresses() {
		address, err := decodeAddress(raw)
		if err != nil {
			return peer, fmt.Errorf("address %d: %w", i, err)
		}
		peer.Addresses = append(peer.Addresses, address)
	}
	peer.Interfaces, err = decodeInterfaces(p.GetInterfaces())
	return peer, err
}

// decodeNames decodes node names in strictly increasing order. what names the list in errors.
func decodeNames(what string, list []string) ([]string, error) {
	if err := checkCount(what, len(list), maxPeers); err != nil {
		return nil, err
	}
	for i, name := range list {
		err := checkName("node", name)
		if err == nil && i > 0 && list[i-1] >= name {
			err = fmt.Errorf("%q comes after %q; names ascend and each comes once", name, list[i-1])
		}
		if err != nil {
			return nil, fmt.Errorf("%s %d: %w", what, i, err)
		}
	}
	return list, nil
}

// applyFailover fills in what a delta leaves out of set's failover.
func applyFailover(have plan.Failover, set *plan.NodePlan, p *pb.Plan, withdrawn []string) error {
	if p.GetFailover() == nil {
		set.Failover.TransmitInterval, set.Failover.DetectMultiplier = have.TransmitInterval, have.DetectMultiplier
		set.Failover.ProofKey = have.ProofKey
	}
	peers, err := mergePeers(have.Peers, set.Failover.Peers, withdrawn)
	if err != nil {
		return err
	}
	set.Failover.Peers = peers
	if len(peers) == 0 {
		set.Failover.Peers = nil // as in a snapshot without any
	}
	return checkCount("plan: peers", len(set.Failover.Peers), maxPeers)
}
