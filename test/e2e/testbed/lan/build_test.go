package lan

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/internal/need"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// Every host reaches every other on both families, and the network leaves nothing
// behind.
func TestBuildConnectsHosts(t *testing.T) {
	need.Root(t, "network namespaces")
	for name, separate := range map[string]bool{"management on the LAN": false, "separate management": true} {
		t.Run(name, func(t *testing.T) {
			l, err := New(ID(t.TempDir()), 2, separate)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, Remove(context.WithoutCancel(t.Context()), l.ID)) })
			require.NoError(t, l.Build(t.Context()))
			for _, to := range []Host{l.Nodes[1].Host, l.FRR, l.BIRD, l.Client} {
				reach(t, l.Nodes[0].NetNS, to.NetNS, to.LAN)
				reach(t, to.NetNS, l.Nodes[0].NetNS, l.Nodes[0].LAN)
			}
			reach(t, l.Nodes[0].NetNS, l.ControlPlane.NetNS, l.ControlPlane.Primary())
			pod := l.Nodes[1].PodAddress(2)
			podNS := Prefix(l.ID) + "pod"
			require.NoError(t, AddNetNS(t.Context(), podNS))
			for _, s := range l.Nodes[1].PodScript(podNS, "pod", pod) {
				require.NoError(t, netns.Batch(t.Context(), s.NetNS, s.Commands))
			}
			reach(t, l.Nodes[0].NetNS, podNS, pod)
			require.NoError(t, Remove(t.Context(), l.ID))
			left, err := netns.List(Prefix(l.ID))
			require.NoError(t, err)
			require.Empty(t, left)
			require.NoError(t, Remove(t.Context(), l.ID), "removing twice")
		})
	}
}

// reach connects from one namespace to addresses of another.
func reach(t *testing.T, from, to string, addresses Pair) {
	t.Helper()
	for _, a := range []netip.Addr{addresses.V4, addresses.V6} {
		var l net.Listener
		require.NoError(t, netns.Do(to, func() (err error) {
			l, err = net.Listen("tcp", netip.AddrPortFrom(a, 0).String())
			return err
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		conn, err := netns.Dialer(from)(ctx, "tcp", l.Addr().String())
		cancel()
		require.NoError(t, err, "from %s to %s", from, a)
		require.NoError(t, conn.Close())
		require.NoError(t, l.Close())
	}
}
