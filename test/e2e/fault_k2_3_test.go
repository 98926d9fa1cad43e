//go:build e2e

package e2e

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// TestFault_K2_3_NodeDeletedWhileItRuns: its addresses move as planned, whatever the leader does
// meanwhile; the machine is told, and answers for nothing afterwards.
func TestFault_K2_3_NodeDeletedWhileItRuns(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 3, Proxy: "nftables", Mgmt: "lan"})
	l.create("web", nil)
	address := l.address("web")
	l.requested(address)
	t.Run("the owner", func(t *testing.T) { l.with(t).deleteOwner(address, func() {}) })
	t.Run("the owner, while the leader changes", func(t *testing.T) {
		l := l.with(t)
		l.deleteOwner(address, func() { require.NoError(l, l.c.Restart(l.Context(), "ccm:"+l.nodeOfReplica(l.leader("")))) })
	})
}

// deleteOwner deletes the Node that answers for address, under a steady stream of requests.
func (l *lab) deleteOwner(address netip.Addr, meanwhile func()) {
	l.Helper()
	owner := l.nodeOf(l.answerer(address))
	s := l.stream([]netip.Addr{address, address, address, address})
	time.Sleep(time.Second)
	began := time.Now()
	require.NoError(l, l.client.CoreV1().Nodes().Delete(l.Context(), owner, metav1.DeleteOptions{}))
	meanwhile()
	l.eventuallyAnsweredByAnother(address, owner)
	l.Logf("Node %s deleted: another answers after %s", owner, time.Since(began).Round(time.Millisecond))
	now := l.answerer(address)
	l.stays(address, now)
	l.toldOf("default", owner, "NodeDeleting", "answers for no address any longer")
	s.end(l)
	l.start("kubelet:" + owner)
	l.stays(address, now)
}
