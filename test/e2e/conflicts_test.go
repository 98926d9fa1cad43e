//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// TestConflicts has a host on the LAN take addresses of the pool: those that come next before
// anybody gets them, then those of a Service, then so many that it has to be a proxy.
func TestConflicts(t *testing.T) {
	l := up(t, testbed.Options{Nodes: 2, Proxy: "nftables", Mgmt: "lan"})
	taken := []netip.Addr{plus(l.c.PoolV4().Addr(), 200), plus(l.c.PoolV6().Addr(), 200)}
	stranger := l.hostMAC("client")
	l.has("add", taken...)
	config := fmt.Sprintf("apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\nfailover: %s\nconflicts: {probeInterval: 10s, quarantine: 10s}\npools:\n"+
		"- {name: default, addresses: [%s-%s, %s-%s], l2: [{interface: eth0}]}\n", slowFailover, taken[0], plus(taken[0], 31), taken[1], plus(taken[1], 31))
	l.configure(config)
	l.configured(func(t require.TestingT, text string) { require.Equal(t, config, text) })

	for _, address := range taken {
		l.toldOf(system, "baremetal-cloud-config", "AddressQuarantined", fmt.Sprintf("address %s of pool default is used by another machine on the network (%s, heard on eth0 of node node", address, stranger))
	}
	require.Equal(t, "1", l.metric(`baremetal_ccm_pool_addresses_quarantined{family="IPv4",pool="default"}`))
	require.Equal(t, "1", l.metric(`baremetal_ccm_pool_addresses_quarantined{family="IPv6",pool="default"}`))
	l.create("web", of(dual, false))
	addresses := l.addresses("web", 2)
	require.Equal(t, []netip.Addr{taken[0].Next(), taken[1].Next()}, addresses)
	l.create("asking", func(svc *corev1.Service) {
		svc.Annotations = map[string]string{"baremetal.cloud/addresses": taken[0].String()}
	})
	l.eventually(func(t *assert.CollectT) {
		out, err := l.c.Kubectl(l.Context(), "describe", "service", "asking")
		require.NoError(t, err)
		require.Contains(t, out, fmt.Sprintf("address %s is not given out: another machine on the network uses it, %s", taken[0], stranger))
	})
	l.says("asking", "baremetal.cloud/Allocated", "AddressQuarantined")
	l.has("del", taken...)

	for _, address := range addresses {
		l.defended(address, stranger)
	}
	require.Equal(t, taken[0], l.address("asking"), "it is out of quarantine")

	var many []netip.Addr
	for i := range 5 {
		many = append(many, plus(taken[0], 5+i))
	}
	l.has("add", many...)
	l.toldOf(system, "baremetal-cloud-config", "ProxyFound", stranger)
	require.Equal(t, "1", l.metric("baremetal_ccm_proxies"))
	require.Equal(t, "0", l.metric(`baremetal_ccm_pool_addresses_quarantined{family="IPv4",pool="default"}`))
	l.create("more", nil)
	require.Equal(t, plus(taken[0], 2), l.address("more"))
}

// has adds addresses to the client host, or takes them away.
func (l *lab) has(what string, addresses ...netip.Addr) {
	l.Helper()
	for _, a := range addresses {
		command := []string{"ip", "address", what, netip.PrefixFrom(a, a.BitLen()).String(), "dev", "eth0"}
		if a.Is6() && what == "add" {
			command = append(command, "nodad")
		}
		out, err := l.c.In(l.Context(), "client", command...)
		require.NoError(l, err, out)
	}
}

// hostMAC returns the hardware address of a host on the LAN.
func (l *lab) hostMAC(host string) string {
	l.Helper()
	out, err := l.c.In(l.Context(), host, "cat", "/sys/class/net/eth0/address")
	require.NoError(l, err, out)
	return strings.TrimSpace(out)
}

// defended has the client host announce an address of Service web as its own: the node that
// answers announces it again, and the Service's condition, an Event and a metric tell.
func (l *lab) defended(address netip.Addr, stranger string) {
	l.Helper()
	owner := l.addressOwner(address)
	node := l.nodeOf(owner)
	before := l.defences(node)
	require.NoError(l, l.c.Claim(l.Context(), address))
	l.told("web", "AddressConflict", fmt.Sprintf("another machine on the network uses %s too (%s, heard on eth0 of node %s)", address, stranger, node))
	l.says("web", "baremetal.cloud/Announced", "AddressConflict")
	require.Equal(l, "1", l.metric(fmt.Sprintf("baremetal_ccm_address_conflict{address=%q,mac=%q,namespace=\"default\",service=\"web\"}", address, stranger)))
	l.until(func() bool { return l.defences(node) > before }, "%s defends nothing", node) // metrics may be a second old
	l.stays(address, owner)
	l.requested(address)
}

// defences returns how often the announcer of a node has defended an address.
func (l *lab) defences(node string) int {
	l.Helper()
	out, err := l.c.In(l.Context(), node, "curl", "-s", "-m", "5", "http://127.0.0.1:10271/metrics")
	require.NoError(l, err)
	for line := range strings.Lines(out) {
		if value, ok := strings.CutPrefix(line, "baremetal_announcer_defences_total "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			require.NoError(l, err)
			return n
		}
	}
	require.Fail(l, "no such metric")
	return 0
}
