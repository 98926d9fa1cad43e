package cloud

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"baremetal.cloud/ccm/pkg/announcer/plan"
	"baremetal.cloud/ccm/pkg/loadbalancer"
)

// departing is a provider to whose core nodes have streams, and what tells of those that are
// deleted.
func departing(now func() time.Time, nodes ...string) (p *Provider, tell func() string) {
	recorder := record.NewFakeRecorder(10)
	p = &Provider{core: newCore(now, func(...string) {}), recorder: recorder}
	p.options.Logger = slog.New(slog.DiscardHandler)
	for _, node := range nodes {
		p.core.setNode(loadbalancer.Node{Name: node})
		p.core.takeReport(node, plan.Report{Interfaces: []plan.Interface{{Name: "eth0"}}})
	}
	return p, func() (out string) {
		for _, n := range p.core.takeDepartures() {
			p.tellDeparture(n)
			out += <-recorder.Events + "\n"
		}
		return out
	}
}

// TestFault_K2_3_EventsTellOfADeletedNode: one when its addresses begin to move, and one when it
// answers for nothing any longer, or may go on.
func TestFault_K2_3_EventsTellOfADeletedNode(t *testing.T) {
	now := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	p, tell := departing(func() time.Time { return now }, "node1", "node2")
	report := plan.Report{Interfaces: []plan.Interface{{Name: "eth0"}}}
	p.core.planNodes("cluster", 1, []byte("secret"))

	p.core.deleteNode("node1", "uid-1")
	require.Empty(t, tell(), "a standby tells nothing")
	plans, again := p.core.planNodes("cluster", 1, []byte("secret"))
	require.NotZero(t, again)
	require.Equal(t, "Normal NodeDeleting node node1 was deleted while its announcer runs: its addresses move to others as in a planned move\n", tell())
	report.Plan = plans["node1"].Version
	p.core.takeReport("node1", report)
	p.core.planNodes("cluster", 1, []byte("secret"))
	require.Equal(t, "Normal NodeDeleting node node1, which was deleted, answers for no address any longer: it has acknowledged an empty plan\n", tell())

	p.core.deleteNode("node2", "uid-2")
	p.core.planNodes("cluster", 1, []byte("secret"))
	require.NotEmpty(t, tell())
	now = now.Add(time.Minute)
	p.core.planNodes("cluster", 1, []byte("secret"))
	require.Equal(t, "Warning NodeDeleting node node2, which was deleted, may still answer for addresses: it did not acknowledge an empty plan in time; end its announcer\n", tell())

	p.core.deleteNode("node3", "uid-3") // It has no announcer.
	p.core.planNodes("cluster", 1, []byte("secret"))
	require.Empty(t, tell())
	require.Empty(t, p.core.departures.uids)
}

// TestFault_K2_3_StreamOfADeletedNodeEnds before it has acknowledged: a Warning where it still
// answered for an address, else none. It is followed no longer, by a standby either.
func TestFault_K2_3_StreamOfADeletedNodeEnds(t *testing.T) {
	claims := plan.Index[plan.Claim]{}.With(plan.Claim{Address: netip.MustParseAddr("192.0.2.1")})
	for name, c := range map[string]struct {
		leads bool
		last  plan.Report
		want  string
	}{
		"it still answers":      {true, plan.Report{Claims: claims}, "Warning NodeDeleting node node1, which was deleted, may still answer for addresses: its announcer has lost its stream; end its announcer\n"},
		"it announces by BGP":   {true, plan.Report{BGP: plan.BGPReport{Sessions: []plan.BGPSession{{}}}}, "Warning NodeDeleting node node1, which was deleted, may still answer for addresses: its announcer has lost its stream; end its announcer\n"},
		"it has given up all":   {true, plan.Report{}, "Normal NodeDeleting node node1, which was deleted, answers for no address any longer: its announcer has ended\n"},
		"a standby sees it all": {false, plan.Report{Claims: claims}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, tell := departing(time.Now, "node1", "node2")
			p.core.deleteNode("node1", "uid-1")
			if c.leads {
				p.core.planNodes("cluster", 1, []byte("secret"))
				require.Contains(t, tell(), "its addresses move")
			}
			c.last.Interfaces = []plan.Interface{{Name: "eth0"}}
			p.core.takeReport("node1", c.last)
			p.core.streamEnded("node1")
			require.Equal(t, c.want, tell())
			require.Empty(t, p.core.departures.uids)
			p.core.planNodes("cluster", 1, []byte("secret"))
			require.Empty(t, tell(), "once")
		})
	}
}

// TestFault_K2_3_DeletedNodesAreForgotten, however many come and go.
func TestFault_K2_3_DeletedNodesAreForgotten(t *testing.T) {
	p, _ := departing(time.Now)
	for i := range 1000 {
		node := fmt.Sprint("node", i)
		p.core.setNode(loadbalancer.Node{Name: node})
		if i%2 == 0 {
			p.core.takeReport(node, plan.Report{})
		}
		p.core.deleteNode(node, types.UID(node))
		if i%4 == 0 {
			p.core.setNode(loadbalancer.Node{Name: node})
			p.core.deleteNode(node, types.UID(node))
		}
		p.core.streamEnded(node)
	}
	require.Empty(t, p.core.departures.uids)
	require.Empty(t, p.core.departures.news, "no leader told of any")
}
