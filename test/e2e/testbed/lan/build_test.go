package lan

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// Every host reaches every other on both families, and the LAN leaves nothing behind.
func TestBuildConnectsHosts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	for _, separate := range []bool{false, true} {
		l, err := New(ID(t.TempDir()), 2, separate)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, Remove(context.WithoutCancel(t.Context()), l.ID)) })
		require.NoError(t, l.Build(t.Context()))
		for _, from := range []string{l.Nodes[0].NetNS, l.Client.NetNS} {
			for _, to := range []Pair{l.Nodes[1].LAN, l.FRR.LAN, l.BIRD.LAN} {
				ping(t, from, to.V4.String())
				ping(t, from, to.V6.String())
			}
		}
		ping(t, l.Nodes[0].NetNS, l.ControlPlane.Primary().V6.String())
		require.NoError(t, Remove(t.Context(), l.ID))
		left, err := netns.List(Prefix(l.ID))
		require.NoError(t, err)
		require.Empty(t, left)
		require.NoError(t, Remove(t.Context(), l.ID), "removing twice")
	}
}

func ping(t *testing.T, ns, to string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ip", "netns", "exec", ns, "ping", "-c1", "-W1", to).CombinedOutput()
	require.NoError(t, err, "from %s to %s: %s", ns, to, out)
}
