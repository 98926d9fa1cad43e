package planfile

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/announcer/control"
)

// plan is revision r of a term, with n addresses.
func plan(term, r uint64, n int) announcement.Set {
	set := announcement.Set{Cluster: "c", Stamp: announcement.Stamp{Term: term, Revision: r}, Sight: announcement.Sight{
		TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3,
		Peers: []announcement.Peer{{Node: "node2", Key: announcement.Key{1, 2, 3}, Interfaces: []announcement.Interface{
			{Name: "eth0", MAC: "02:00:00:00:00:01", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24")}},
		}}},
	}}
	address := netip.MustParseAddr("10.0.0.1")
	for range n {
		set.Announcements = set.Announcements.With(announcement.Announcement{
			Address: address, Stamp: set.Stamp, Candidates: []string{"node1", "node2"}, Interface: "eth0",
		})
		address = address.Next()
	}
	return set
}

func encoded(t testing.TB, k control.Kept) []byte {
	t.Helper()
	data, err := Encode(k)
	require.NoError(t, err)
	return data
}

func TestDecode(t *testing.T) {
	kept := control.Kept{Node: "node1", Account: "uid", Plan: plan(7, 12, 3)}
	got, err := Decode(encoded(t, kept))
	require.NoError(t, err)
	same(t, kept, got)
}

// same compares what a file has: two indexes of the same may have other shapes.
func same(t *testing.T, want, got control.Kept) {
	t.Helper()
	require.Equal(t, want.Node, got.Node)
	require.Equal(t, want.Account, got.Account)
	samePlan(t, want.Plan, got.Plan)
}

func samePlan(t *testing.T, want, got announcement.Set) {
	t.Helper()
	require.True(t, want.Announcements.Equal(got.Announcements))
	got.Announcements = want.Announcements
	require.Equal(t, want, got)
}

// TestDecodeDamaged: whatever is cut off, added or flipped is noticed.
func TestDecodeDamaged(t *testing.T) {
	data := encoded(t, control.Kept{Node: "node1", Account: "uid", Plan: plan(7, 12, 2)})
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
	data := encoded(t, control.Kept{Node: "node1", Plan: plan(7, 12, 0)})
	binary.BigEndian.PutUint32(data[versionOffset:], version+1)
	_, err := Decode(data)
	require.EqualError(t, err, fmt.Sprintf("the file has version %d; this build reads version %d", version+1, version))
}

// TestDecodeRefuses: what is whole and says nothing that a node could use.
func TestDecodeRefuses(t *testing.T) {
	foreign, unstamped := plan(7, 12, 1), plan(0, 0, 1)
	foreign.Cluster = ""
	for why, kept := range map[string]control.Kept{
		"node is empty":                       {Plan: plan(7, 12, 1)},
		"plan: no stamp":                      {Node: "node1", Plan: unstamped},
		announcement.ErrIncomplete.Error():    {Node: "node1", Plan: foreign},
		"account of 300 bytes; the limit is ": {Node: "node1", Account: fmt.Sprintf("%300d", 0), Plan: plan(7, 12, 1)},
	} {
		_, err := Decode(encoded(t, kept))
		require.ErrorContains(t, err, why)
	}
}

// FuzzDecode: no payload makes the reader fail in another way than by an error, and what it
// takes it can write.
func FuzzDecode(f *testing.F) {
	data := encoded(f, control.Kept{Node: "node1", Account: "uid", Plan: plan(7, 12, 3)})
	f.Add(data[headerSize : len(data)-32])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		kept, err := control.DecodeKept(payload)
		if err != nil {
			return
		}
		again, err := Decode(encoded(t, kept))
		require.NoError(t, err)
		same(t, kept, again)
	})
}
