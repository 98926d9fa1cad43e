package loadbalancer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestFault_K1_9_EveryPlanHasThePacing: an edit of the cloud-config reaches every node, also one
// that nothing else changes for.
func TestFault_K1_9_EveryPlanHasThePacing(t *testing.T) {
	w := newWorld(t)
	w.run("pool default 10.0.0.0/28\nnode node1\nnode node2\nconnect node1 node2\nleader 1")
	w.plan()
	require.Len(t, w.plans, 2)
	want := plan.Pacing{Burst: 10, Interval: time.Second, Repeat: 3, Refresh: time.Minute}
	w.config.Announce = want
	require.NoError(t, w.b.Configure(w.config))
	w.plan()
	for name, p := range w.plans {
		require.Equal(t, want, p.Pacing, name)
	}
}
