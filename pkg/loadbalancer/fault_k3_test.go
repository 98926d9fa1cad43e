package loadbalancer

import (
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/ipam"
)

// playFile plays one scenario of testdata.
func playFile(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".txt")
	require.NoError(t, err)
	require.Equal(t, string(text), newWorld(t).play(string(text)))
}

// An address is free once the status shows it no more and its nodes have stopped.
func TestFault_K3_3_ReleaseInOrder(t *testing.T) { playFile(t, "fault_k3_3_release") }

// A class does not leave the configuration while Services of it hold addresses.
func TestFault_K3_3_ClassIsNotStranded(t *testing.T) { playFile(t, "fault_k3_3_class") }

// What the status of a Service shows that is new is adopted, if free and admitted.
func TestFault_K3_5_StatusIsAdopted(t *testing.T) { playFile(t, "fault_k3_5_adopt") }

// A shared pair without a key keeps its address, and is told which key to write.
func TestFault_K3_6_KeylessPairIsAdopted(t *testing.T) { playFile(t, "fault_k3_6_shared") }

// A Service that was let go of before the leader began, and vanishes before its status was
// written, keeps no address from others.
func TestFault_K3_3_ReleasedServiceVanishes(t *testing.T) {
	w := newWorld(t)
	w.pool([]string{"default", "10.0.0.0/32"})
	old := Service{Request: ipam.Request{Holder: ipam.Holder{UID: "uid-old", Namespace: "default", Name: "old"}}, Published: []netip.Addr{netip.MustParseAddr("10.0.0.0")}}
	require.Empty(t, w.b.Restore(nil, nil, old))
	require.Contains(t, w.service([]string{"new"}), "no free IPv4 address")
	require.Equal(t, []string{"uid-old"}, w.b.UIDs("default/old"))
	w.b.Release("uid-old", w.now)
	require.Empty(t, w.b.UIDs("default/old"))
	require.True(t, w.b.Freed())
	require.Equal(t, []string{"uid-new"}, w.b.Retry(w.now))
}
