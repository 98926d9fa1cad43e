package cloud

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/record"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
	"baremetal.cloud/ccm/pkg/loadbalancer"
)

// TestFault_K2_3_EventsTellOfADeletedNode: one when its addresses begin to move, and one when it
// answers for nothing any longer, or may go on.
func TestFault_K2_3_EventsTellOfADeletedNode(t *testing.T) {
	now := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	recorder := record.NewFakeRecorder(10)
	p := &Provider{core: newCore(func() time.Time { return now }, func(...string) {}), recorder: recorder}
	p.options.Logger = slog.New(slog.DiscardHandler)
	tell := func() (out string) {
		for _, n := range p.core.takeDepartures() {
			p.tellDeparture(n)
			out += <-recorder.Events + "\n"
		}
		return out
	}
	report := announcement.Report{Interfaces: []announcement.Interface{{Name: "eth0"}}}
	for _, node := range []string{"node1", "node2"} {
		p.core.setNode(loadbalancer.Node{Name: node})
		p.core.observe(node, report)
	}
	p.core.plan("cluster", 1, []byte("secret"))

	p.core.deleteNode("node1", "uid-1")
	require.Empty(t, tell(), "a standby tells nothing")
	plans, again := p.core.plan("cluster", 1, []byte("secret"))
	require.NotZero(t, again)
	require.Equal(t, "Normal NodeDeleting node node1 was deleted while its announcer runs: its addresses move to others as in a planned move\n", tell())
	report.Plan = plans["node1"].Stamp
	p.core.observe("node1", report)
	p.core.plan("cluster", 1, []byte("secret"))
	require.Equal(t, "Normal NodeDeleting node node1, which was deleted, answers for no address any longer: it has acknowledged an empty plan\n", tell())

	p.core.deleteNode("node2", "uid-2")
	p.core.plan("cluster", 1, []byte("secret"))
	require.NotEmpty(t, tell())
	now = now.Add(time.Minute)
	p.core.plan("cluster", 1, []byte("secret"))
	require.Equal(t, "Warning NodeDeleting node node2, which was deleted, may still answer for addresses: it did not acknowledge an empty plan in time; end its announcer\n", tell())

	p.core.deleteNode("node3", "uid-3") // It has no announcer.
	p.core.plan("cluster", 1, []byte("secret"))
	require.Empty(t, tell())
	require.Empty(t, p.core.departures.uids)
}
