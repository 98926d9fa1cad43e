package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	pb "baremetal.cloud/ccm/pkg/announcer/control/controlpb"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestMalformedFailover is refused with its position, and leaves what is held alone.
func TestMalformedFailover(t *testing.T) {
	key := make([]byte, len(plan.Key{}))
	peers := func(names ...string) (list []*pb.Peer) {
		for _, name := range names {
			list = append(list, &pb.Peer{Node: name, Key: key})
		}
		return list
	}
	for name, c := range map[string]struct {
		plan *pb.Plan
		want string
	}{
		"interval without multiplier": {&pb.Plan{Failover: &pb.Failover{TransmitIntervalUs: 1}}, "plan: failover: transmit interval of 1 µs with detect multiplier 0"},
		"multiplier without interval": {&pb.Plan{Failover: &pb.Failover{DetectMultiplier: 3}}, "plan: failover: transmit interval of 0 µs"},
		"endless interval":            {&pb.Plan{Failover: &pb.Failover{TransmitIntervalUs: 1 << 63, DetectMultiplier: 3}}, "the limit is 1m0s"},
		"endless multiplier":          {&pb.Plan{Failover: &pb.Failover{TransmitIntervalUs: 1, DetectMultiplier: 256}}, "the limit is 255"},
		"nameless":                    {&pb.Plan{Peers: peers("")}, "plan: peer 0: node is empty"},
		"endless name":                {&pb.Plan{Peers: peers(strings.Repeat("n", maxName+1))}, "plan: peer 0: node of 254 bytes"},
		"no peer":                     {&pb.Plan{Peers: []*pb.Peer{nil}}, "plan: peer 0: node is empty"},
		"unsorted":                    {&pb.Plan{Peers: peers("b", "a")}, `plan: peer 1: "a" comes after "b"`},
		"twice":                       {&pb.Plan{Peers: peers("b", "b")}, `plan: peer 1: "b" comes after "b"`},
		"too many":                    {&pb.Plan{Peers: make([]*pb.Peer, maxPeers+1)}, "plan: peers: 129 entries"},
		"no key":                      {&pb.Plan{Peers: []*pb.Peer{{Node: "b"}}}, "plan: peer 0: key of 0 bytes; it has 32"},
		"long key":                    {&pb.Plan{Peers: []*pb.Peer{{Node: "b", Key: make([]byte, 33)}}}, "key of 33 bytes"},
		"bad interface":               {&pb.Plan{Peers: []*pb.Peer{{Node: "b", Key: key, Interfaces: []*pb.Interface{{}}}}}, "plan: peer 0: interface 0: name is empty"},
		"bad address":                 {&pb.Plan{Peers: []*pb.Peer{{Node: "b", Key: key, Addresses: [][]byte{{1}}}}}, "plan: peer 0: address 0:"},
		"too many addresses":          {&pb.Plan{Peers: []*pb.Peer{{Node: "b", Key: key, Addresses: make([][]byte, maxNodeAddresses+1)}}}, "plan: peer 0: addresses: 17 entries"},
		"short proof key":             {&pb.Plan{Failover: &pb.Failover{ProofKey: make([]byte, 31)}}, "plan: failover: proof key of 31 bytes; it has 32"},
		"withdrawn in a snapshot":     {&pb.Plan{Snapshot: true, WithdrawnPeers: []string{"a"}}, "plan: a snapshot withdraws nothing"},
		"withdrawn but not held":      {&pb.Plan{WithdrawnPeers: []string{"b"}}, `plan: peer "b" is withdrawn but not held`},
		"withdrawn and there":         {&pb.Plan{WithdrawnPeers: []string{"a"}, Peers: peers("a")}, `plan: peer "a" is both there and withdrawn`},
		"withdrawn twice":             {&pb.Plan{WithdrawnPeers: []string{"a", "a"}}, "plan: withdrawn peers 1:"},
		"too many withdrawn":          {&pb.Plan{WithdrawnPeers: make([]string, maxPeers+1)}, "plan: withdrawn peers: 129 entries"},
	} {
		t.Run(name, func(t *testing.T) {
			have := fuzzBase()
			have.Failover.Peers = have.Failover.Peers[:1]
			c.plan.Cluster, c.plan.Version, c.plan.Base = have.Cluster, &pb.Version{Term: 1, Revision: 2}, encodeVersion(have.Version)
			_, err := applyPlan(have, c.plan)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, fuzzBase().Failover.Peers[:1], have.Failover.Peers)
		})
	}
}

// TestPeersByDeltasStayBounded: many small differences cannot exceed what one plan may hold.
func TestPeersByDeltasStayBounded(t *testing.T) {
	have := set(1, 1)
	for i := range maxPeers {
		have.Failover.Peers = append(have.Failover.Peers, plan.Peer{Node: fmt.Sprintf("n%06d", i)})
	}
	one := &pb.Plan{
		Cluster: have.Cluster, Version: &pb.Version{Term: 1, Revision: 2}, Base: encodeVersion(have.Version),
		Peers: []*pb.Peer{{Node: "z", Key: make([]byte, len(plan.Key{}))}},
	}
	_, err := applyPlan(have, one)
	require.ErrorContains(t, err, "plan: peers: 129 entries; the limit is 128")
}

// TestMalformedDown is refused with its position.
func TestMalformedDown(t *testing.T) {
	for want, down := range map[string][]string{
		"report: down 0: node is empty":                       {""},
		`report: down 1: "a" comes after "b"`:                 {"b", "a"},
		`report: down 1: "a" comes after "a"`:                 {"a", "a"},
		"report: down: 129 entries; the limit is 128":         make([]string, maxPeers+1),
		"report: down 0: node of 254 bytes; the limit is 253": {strings.Repeat("n", maxName+1)},
	} {
		_, err := applyReport(plan.Report{}, &pb.Report{Snapshot: true, Down: down})
		require.ErrorContains(t, err, want)
	}
}

// TestPeersOfOtherReleases: a replica or an announcer that knows nothing of heartbeats works on
// with one that does: each side leaves out, or overlooks, the fields that came with it.
func TestPeersOfOtherReleases(t *testing.T) {
	for seed := range uint64(300) {
		d := roll(seed)
		base, want := d.set(), d.set()
		plainBase, plain := base, want
		plainBase.Failover, plain.Failover = plan.Failover{}, plan.Failover{}
		snapshot, delta := withoutFailover(planSnapshot(want)), withoutFailover(planDelta(base, want))
		got, err := applyPlan(plan.NodePlan{}, overTheWire(t, snapshot, &pb.Plan{}))
		require.NoError(t, err)
		require.Equal(t, plain, got, "seed %d", seed)
		got, err = applyPlan(plainBase, overTheWire(t, delta, &pb.Plan{}))
		require.NoError(t, err)
		require.Equal(t, plain, got, "seed %d", seed)
	}
}

// withoutFailover is p as a build without failover writes or reads it.
func withoutFailover(p *pb.Plan) *pb.Plan {
	p.Failover, p.Peers, p.WithdrawnPeers = nil, nil, nil
	return p
}

// TestUnchangedPeersCostNothing: 64 peers, one of which got another address.
func TestUnchangedPeersCostNothing(t *testing.T) {
	base, want := set(1, 1, "192.0.2.1"), set(1, 2, "192.0.2.1")
	base.Failover = plan.Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3}
	for i := range 64 {
		base.Failover.Peers = append(base.Failover.Peers, plan.Peer{Node: fmt.Sprintf("node%02d", i), Interfaces: roll(1).interfaces()})
	}
	want.Failover = base.Failover
	unchanged := proto.Size(planMessage(base, want))
	require.Equal(t, proto.Size(withoutFailover(planDelta(base, want))), unchanged)

	want.Failover.Peers = append([]plan.Peer(nil), base.Failover.Peers...)
	want.Failover.Peers[7].Interfaces = nil
	message := planMessage(base, want)
	require.Len(t, message.Peers, 1)
	require.Equal(t, "node07", message.Peers[0].Node)
	require.Less(t, proto.Size(message)-unchanged, 60)
}
