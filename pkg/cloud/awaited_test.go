package cloud

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/ipam"
	"baremetal.cloud/ccm/pkg/loadbalancer"
)

// K3.8: a new leader waits for a node only if there may be an announcer on it that knows
// what the leader does not: it had a stream lately, and its peers do not report it down.
func TestFault_K3_8_AwaitedNodes(t *testing.T) {
	now := time.Now()
	core := newCore(func() time.Time { return now }, func(...string) {})
	require.NoError(t, core.configure(loadbalancer.Config{Config: ipam.Config{Pools: []ipam.Pool{{
		Name: "default", Ranges: []ipam.Range{{First: netip.MustParseAddr("10.0.0.0"), Last: netip.MustParseAddr("10.0.0.15")}}, AutoAssign: true,
	}}}}))
	for _, name := range []string{"bare", "node1", "node2", "node3"} {
		core.setNode(loadbalancer.Node{Name: name})
	}
	require.Empty(t, core.awaited(), "no Service holds an address")
	require.NoError(t, core.ensure(loadbalancer.Service{Request: ipam.Request{
		Holder: ipam.Holder{UID: "uid", Namespace: "default", Name: "web"}, Families: []ipam.Family{ipam.IPv4},
	}}))

	require.Equal(t, []string{"bare", "node1", "node2", "node3"}, core.awaited(), "a process that has only begun")
	core.observe("node1", announcement.Report{})
	core.observe("node2", announcement.Report{})
	core.observe("node3", announcement.Report{})
	require.Equal(t, []string{"bare"}, core.awaited())
	now = now.Add(gather)
	require.Empty(t, core.awaited(), "where nothing connected for so long there is no announcer")

	core.disconnect("node1")
	require.Equal(t, []string{"node1"}, core.awaited())
	core.observe("node2", announcement.Report{Down: []string{"node1"}})
	require.Equal(t, []string{"node1"}, core.awaited(), "one node alone may be wrong")
	core.observe("node3", announcement.Report{Down: []string{"node1"}})
	require.Empty(t, core.awaited())
	core.observe("node3", announcement.Report{})
	require.Equal(t, []string{"node1"}, core.awaited())
	now = now.Add(lately + 1)
	require.Empty(t, core.awaited(), "what it claimed last is known")

	core.disconnect("node3")
	core.observe("node2", announcement.Report{Down: []string{"node3"}})
	require.Empty(t, core.awaited(), "nothing else can tell")
}
