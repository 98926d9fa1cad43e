package cloud

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
)

// K3.8: a new leader waits for a node only if there may be an announcer on it that knows
// what the leader does not: it had a stream lately, and its peers do not report it down.
func TestFault_K3_8_AwaitedNodes(t *testing.T) {
	now := time.Now()
	core := newCore(func() time.Time { return now }, func(...string) {})
	require.NoError(t, core.setConfig(loadbalancer.Config{Config: ipam.Config{Pools: []ipam.Pool{{
		Name: "default", Ranges: []ipam.Range{{First: netip.MustParseAddr("10.0.0.0"), Last: netip.MustParseAddr("10.0.0.15")}}, AutoAssign: true,
	}}}}))
	for _, name := range []string{"bare", "node1", "node2", "node3"} {
		core.setNode(loadbalancer.Node{Name: name})
	}
	require.Empty(t, core.awaitedNodes(), "no Service holds an address")
	require.NoError(t, core.ensureService(loadbalancer.Service{Request: ipam.Request{
		Holder: ipam.Holder{UID: "uid", Namespace: "default", Name: "web"}, Families: []ipam.Family{ipam.IPv4},
	}}))

	require.Equal(t, []string{"bare", "node1", "node2", "node3"}, core.awaitedNodes(), "a process that has only begun")
	core.takeReport("node1", plan.Report{})
	core.takeReport("node2", plan.Report{})
	core.takeReport("node3", plan.Report{})
	require.Equal(t, []string{"bare"}, core.awaitedNodes())
	now = now.Add(claimGatherDelay)
	require.Empty(t, core.awaitedNodes(), "where nothing connected for so long there is no announcer")

	core.streamEnded("node1")
	require.Equal(t, []string{"node1"}, core.awaitedNodes())
	core.takeReport("node2", plan.Report{Down: []string{"node1"}})
	require.Equal(t, []string{"node1"}, core.awaitedNodes(), "one node alone may be wrong")
	core.takeReport("node3", plan.Report{Down: []string{"node1"}})
	require.Empty(t, core.awaitedNodes())
	core.takeReport("node3", plan.Report{})
	require.Equal(t, []string{"node1"}, core.awaitedNodes())
	now = now.Add(lostStreamDelay + 1)
	require.Empty(t, core.awaitedNodes(), "what it claimed last is known")

	core.streamEnded("node3")
	core.takeReport("node2", plan.Report{Down: []string{"node3"}})
	require.Empty(t, core.awaitedNodes(), "nothing else can tell")
}
