//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// TestFault_K2_1_FirewallOnAllNodes: on every node a firewall refuses the heartbeats that the node
// sends. One node goes on to answer for each address, the one that did; when its announcer ends
// another one does, also without a control plane; and when heartbeats pass again nothing moves.
func TestFault_K2_1_FirewallOnAllNodes(t *testing.T) {
	m := &matrix{lab: up(t, testbed.Options{Nodes: 3, Proxy: "nftables", Mgmt: "separate"}), separate: true}
	m.create("web", of(dual, false))
	m.services = append(m.services, combination{name: "web", text: "web", addresses: m.addresses("web", 2)})
	m.each("one node answers", (*matrix).answered)
	owners := m.owners()
	m.heartbeats("drop")
	m.keep(owners)
	m.each("as before", (*matrix).answered)

	m.stop("ccm")
	ended := owners[m.services[0].addresses[0]]
	m.stop("announcer:" + ended)
	m.until(func() bool {
		owners = m.owners()
		return len(ownedBy(owners, ended)) == 0
	}, "%s still answers", ended)
	m.keep(owners)
	m.start("announcer:" + ended)
	m.keep(owners)
	m.heartbeats("accept")
	m.keep(owners)
	m.start("ccm")
	m.keep(owners)
	m.each("to the end", (*matrix).answered)
}

// heartbeats has all nodes do something with the heartbeats that they send, at the same time.
func (m *matrix) heartbeats(verdict string) {
	m.Helper()
	var all errgroup.Group
	for _, node := range m.nodes() {
		all.Go(func() error {
			_, err := m.c.In(m.Context(), node, "nft", "add table inet heartbeats; flush table inet heartbeats; "+
				"add chain inet heartbeats output { type filter hook output priority 0; }; "+
				fmt.Sprintf("add rule inet heartbeats output udp dport %d %s", heartbeatPort, verdict))
			return err
		})
	}
	require.NoError(m, all.Wait())
}

// keep checks that each address is answered for a while by one node, the same as before.
func (m *matrix) keep(owners map[netip.Addr]string) {
	m.Helper()
	for until := time.Now().Add(lasting(time.Minute, 8*time.Second)); time.Now().Before(until); {
		m.unmoved(owners)
	}
}
