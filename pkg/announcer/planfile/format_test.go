package planfile

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/control"
	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// nodePlan is revision r of a term, with n addresses.
func nodePlan(term, r uint64, n int) plan.NodePlan {
	set := plan.NodePlan{Cluster: "c", Version: plan.Version{Term: term, Revision: r}, Failover: plan.Failover{
		TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3,
		Peers: []plan.Peer{{Node: "node2", Key: plan.Key{1, 2, 3}, Interfaces: []plan.Interface{
			{Name: "eth0", MAC: "02:00:00:00:00:01", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24")}},
		}}},
	}}
	address := netip.MustParseAddr("10.0.0.1")
	for range n {
		set.Assignments = set.Assignments.With(plan.Assignment{
			Address: address, Version: set.Version, Candidates: []string{"node1", "node2"}, Interface: "eth0",
		})
		address = address.Next()
	}
	return set
}

func encoded(t testing.TB, k control.PersistedPlan) []byte {
	t.Helper()
	data, err := Encode(k)
	require.NoError(t, err)
	return data
}

func TestDecode(t *testing.T) {
	kept := control.PersistedPlan{Node: "node1", Account: "uid", Plan: nodePlan(7, 12, 3)}
	got, err := Decode(encoded(t, kept))
	require.NoError(t, err)
	same(t, kept, got)
}

// same compares what a file has: two indexes of the same may have other shapes.
func same(t *testing.T, want, got control.PersistedPlan) {
	t.Helper()
	require.Equal(t, want.Node, got.Node)
	require.Equal(t, want.Account, got.Account)
	samePlan(t, want.Plan, got.Plan)
}

func samePlan(t *testing.T, want, got plan.NodePlan) {
	t.Helper()
	require.True(t, want.Assignments.Equal(got.Assignments))
	got.Assignments = want.Assignments
	require.Equal(t, want, got)
}

// TestDecodeDamaged: whatever is cut off, added or flipped is noticed.
func TestDecodeDamaged(t *testing.T) {
	data := encoded(t, control.PersistedPlan{Node: "node1", Account: "uid", Plan: nodePlan(7, 12, 2)})
	for n := range data {
		_, err := Decode(data[:n])
		require.ErrorIs(t, err, ErrDamaged, "cut to %d bytes", n)
	}
	_, err := Decode(append(slices.Clone(data), 0))
	require.ErrorIs(t, err, ErrDamaged)
	for bit := range 8 * len(data) {
		flipped := slices.Clone(data)
		flipped[bit/8] ^= 1 << (bit % 8)
		_, err := Decode(flipped)
		require.Error(t, err, "bit %d", bit)
	}
}

// TestDecodeVersion: a file of a version to come is told from a damaged one.
func TestDecodeVersion(t *testing.T) {
	data := encoded(t, control.PersistedPlan{Node: "node1", Plan: nodePlan(7, 12, 0)})
	binary.BigEndian.PutUint32(data[versionOffset:], version+1)
	_, err := Decode(data)
	require.EqualError(t, err, fmt.Sprintf("the file has version %d; this build reads version %d", version+1, version))
}

// TestDecodeRefuses: what is whole and says nothing that a node could use.
func TestDecodeRefuses(t *testing.T) {
	foreign, unstamped := nodePlan(7, 12, 1), nodePlan(0, 0, 1)
	foreign.Cluster = ""
	for why, kept := range map[string]control.PersistedPlan{
		"node is empty":                       {Plan: nodePlan(7, 12, 1)},
		"plan: no version":                    {Node: "node1", Plan: unstamped},
		plan.ErrIncomplete.Error():            {Node: "node1", Plan: foreign},
		"account of 300 bytes; the limit is ": {Node: "node1", Account: fmt.Sprintf("%300d", 0), Plan: nodePlan(7, 12, 1)},
	} {
		_, err := Decode(encoded(t, kept))
		require.ErrorContains(t, err, why)
	}
}

// FuzzDecode: no payload makes the reader fail in another way than by an error, and what it
// takes it can write.
func FuzzDecode(f *testing.F) {
	data := encoded(f, control.PersistedPlan{Node: "node1", Account: "uid", Plan: nodePlan(7, 12, 3)})
	f.Add(data[headerSize : len(data)-32])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		kept, err := control.DecodePersistedPlan(payload)
		if err != nil {
			return
		}
		again, err := Decode(encoded(t, kept))
		require.NoError(t, err)
		same(t, kept, again)
	})
}
