package loadbalancer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/reason"
)

// six is a cluster whose pools are on a segment that node1 and node2 have, and that node3 and
// node4 reach by their default routes.
const six = `pool four 10.0.0.0/24
pool six 2001:db8::/64
node node1
node node2
node node3
node node4
interface node1 eth0 192.0.2.1/24 via=0.0.0.0/0 via=::/0
interface node1 eth1 10.0.0.101/24 2001:db8::101/64
interface node2 eth0 192.0.2.2/24 via=0.0.0.0/0 via=::/0
interface node2 eth1 10.0.0.102/24 2001:db8::102/64
interface node3 eth0 192.0.2.3/24 via=0.0.0.0/0 via=::/0
interface node4 eth0 192.0.2.4/24 via=0.0.0.0/0 via=::/0
connect node1 node2 node3 node4
leader 1
`

// services are so many dual-stack Services with an endpoint.
func services(names string) string {
	out := ""
	for name := range strings.FieldsSeq(names) {
		out += "service " + name + " dual\nendpoints " + name + " node1\n"
	}
	return out
}

// TestFault_K2_4_DefaultRouteOffSegment: where some nodes are on the segment of a pool without
// l2.interface, no other one is a candidate for its addresses, and each list says so to nodes.
func TestFault_K2_4_DefaultRouteOffSegment(t *testing.T) {
	w := newWorld(t)
	w.play(six + services("a b c d e f") + "plan\n----")
	require.Len(t, w.b.plan.lists, 12)
	for address, list := range w.b.plan.lists {
		require.ElementsMatch(t, []string{"node1", "node2"}, list.Candidates, address)
		require.Equal(t, plan.OnLinkOnly, list.Interface)
	}
	l2 := w.b.l2["four"]
	require.Equal(t, reason.NodeOffSegment, w.b.mayAnswerFor(w.b.nodes["node3"], netip.MustParseAddr("10.0.0.0"), l2))
	// An interface that the administrator names is that person's word.
	l2.Interface = "eth0"
	require.Empty(t, w.b.mayAnswerFor(w.b.nodes["node3"], netip.MustParseAddr("10.0.0.0"), l2))
}

// TestFault_K2_4_OneWordExcludesNone: one node that says that it is on a segment gets what is
// new there, and takes nothing that others have; no more does it keep them from being backups.
func TestFault_K2_4_OneWordExcludesNone(t *testing.T) {
	w := newWorld(t)
	alone := strings.Join(slices.DeleteFunc(strings.SplitAfter(six, "\n"), func(line string) bool { return strings.Contains(line, " eth1 ") }), "")
	w.play(alone + services("a b c d e f") + "plan\nack node1 node2 node3 node4\n----")
	require.Len(t, w.b.plan.lists, 12)
	before := map[netip.Addr]plan.Assignment{}
	for address, list := range w.b.plan.lists {
		before[address] = list
		require.Len(t, list.Candidates, 3)
	}
	w.ports["node1"] = append(w.ports["node1"], port("eth1", []string{"10.0.200.101/16", "10.0.0.102/24", "2001:db8::fff/48"}))
	w.play("connect node1\nplan\nack node1 node2 node3 node4\n----")
	for address, list := range w.b.plan.lists {
		require.Equal(t, before[address], list, "it stays")
	}
	w.play(services("g h i") + "plan\n----")
	for address, list := range w.b.plan.lists {
		if _, old := before[address]; !old {
			require.Equal(t, "node1", list.Candidates[0])
			require.Len(t, list.Candidates, 3)
		}
	}
}

// TestFault_K2_9_NoRouteBackReason: a node that can send nothing of a family may not answer for
// its addresses, and the condition says why.
func TestFault_K2_9_NoRouteBackReason(t *testing.T) {
	w := newWorld(t)
	w.play("pool four 10.0.0.0/24\npool six 2001:db8::/64\nnode node1\ninterface node1 eth0 192.0.2.1/24 no-ipv6\nconnect node1\nleader 1\n" +
		services("a") + "plan\nack node1\n----")
	require.Contains(t, w.play("status a\n----"), "no node may answer for 2001:db8::: on node node1 eth0 cannot send IPv6, for want of a route or a usable address")
	require.Equal(t, []string{"node1"}, w.b.plan.lists[netip.MustParseAddr("10.0.0.0")].Candidates)
	require.Empty(t, w.b.plan.lists[netip.MustParseAddr("2001:db8::")].Candidates)
}
