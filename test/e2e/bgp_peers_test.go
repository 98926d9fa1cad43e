//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// gatewayPeers: a peer that is each node's own default gateway, of IPv4, and of IPv6 with a
// link-local address as routers advertise themselves. One node's gateway is changed to a router
// that is a peer already, and another's goes away: each is named, and no other session ends.
func (b bgp) gatewayPeers() {
	addresses := b.service("gateway", nil)
	v4, v6 := netip.PrefixFrom(addresses[0], 32), netip.PrefixFrom(addresses[1], 128)
	b.routed(addresses, bothRouters, b.nodes()...)

	b.linkLocalNeighbours("node1")
	b.defaultRoute("node1", b.linkLocal("frr"))
	b.defaultRoute("node2", b.linkLocal("bird"))
	b.configure(strings.NewReplacer(
		fmt.Sprintf("name: frr, address: %s,", b.c.Address("frr").V4), "name: frr, address: gateway,",
		fmt.Sprintf("name: frr-v6, address: %q,", b.c.Address("frr").V6), "name: frr-v6, address: gateway-v6, nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node1}}],",
		fmt.Sprintf("name: bird-v6, address: %q,", b.c.Address("bird").V6), "name: bird-v6, address: gateway-v6, nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node2}}],",
	).Replace(b.config))
	b.established(b.nodes(), "frr", "bird")
	b.prefixRouted(v4, bothRouters, b.nodes()...)
	b.established([]string{"node1"}, "frr-v6")
	b.established([]string{"node2"}, "bird-v6")
	local := "frr " + b.linkLocal("node1").String() + " "
	require.True(b, slices.ContainsFunc(slices.Collect(maps.Keys(b.establishments())), func(s string) bool { return strings.HasPrefix(s, local) }), "the session goes by link-local addresses")
	b.prefixRouted(v6, []string{"frr"}, "node1")
	b.prefixRouted(v6, []string{"bird"}, "node2")
	b.through("frr", addresses[1])
	b.through("bird", addresses[1])

	before := b.establishments()
	b.defaultRoute("node2", b.c.Address("bird").V4)
	b.problem("node2", "frr", "DuplicatePeer")
	_, err := b.c.In(b.Context(), "node3", "ip", "-4", "route", "delete", "default")
	require.NoError(b, err)
	b.problem("node3", "frr", "NoGateway")
	b.prefixRouted(v4, []string{"frr"}, "node1")
	b.prefixRouted(v4, []string{"bird"}, b.nodes()...)
	b.goOnWith("bird ", before)

	for _, node := range b.nodes() {
		b.defaultRoute(node, b.c.Address("frr").V4)
		b.defaultRoute(node, b.c.Address("frr").V6)
	}
	b.established(b.nodes(), "frr", "bird")
	b.configure(b.config)
	b.established(b.nodes(), allPeers...)
	b.routed(addresses, bothRouters, b.nodes()...)
	b.delete("gateway")
}

// labelledPeers: the routers of each node, and their AS, are what its labels say. A node without
// the labels has none, one whose label is no address is told so, and both are soon corrected.
func (b bgp) labelledPeers() {
	addresses := b.service("labels", nil)
	v4, v6 := netip.PrefixFrom(addresses[0], 32), netip.PrefixFrom(addresses[1], 128)
	b.routed(addresses, bothRouters, b.nodes()...)
	label := func(node, v4, v6 string, asn int) {
		_, err := b.c.Kubectl(b.Context(), "label", "--overwrite", "node", node, "example.com/tor="+v4,
			"example.com/tor-v6="+strings.ReplaceAll(v6, ":", "-"), fmt.Sprintf("example.com/tor-asn=%d", asn))
		require.NoError(b, err)
	}
	frr, bird := b.c.Address("frr"), b.c.Address("bird")
	label("node1", frr.V4.String(), frr.V6.String(), testbed.FRRASN)
	label("node2", bird.V4.String(), bird.V6.String(), testbed.BIRDASN)
	head, _, _ := strings.Cut(b.config, "\n  peers:\n")
	b.configure(head + fmt.Sprintf(`
  peers:
  - {name: tor, address: "{label:example.com/tor}", localASN: %d, peerASN: "{label:example.com/tor-asn}", holdTime: 9s, connectRetryTime: 1s, gracefulRestart: {}}
  - {name: tor-v6, address: "{label:example.com/tor-v6}", localASN: %[1]d, peerASN: "{label:example.com/tor-asn}", holdTime: 9s, connectRetryTime: 1s, gracefulRestart: {}}
`, testbed.NodeASN))
	b.established([]string{"node1", "node2"}, "tor", "tor-v6")
	b.routed(addresses, []string{"frr"}, "node1")
	b.routed(addresses, []string{"bird"}, "node2")
	b.through("frr", addresses[0])
	b.through("bird", addresses[1])
	require.NotContains(b, b.metrics("node3"), "baremetal_announcer_bgp_session{")

	label("node3", "nowhere", frr.V6.String(), testbed.FRRASN)
	b.eventually(func(t *assert.CollectT) {
		events, err := b.client.CoreV1().Events("").List(b.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=Node,involvedObject.name=node3,reason=NodeLabelInvalid"})
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
			return e.Message == `BGP peer tor: the labels make the address {label:example.com/tor} "nowhere", which is none`
		}), "%v", events.Items)
	}, "an Event on the Node")
	b.prefixRouted(v6, []string{"frr"}, "node1", "node3")
	b.prefixRouted(v4, []string{"frr"}, "node1")
	label("node3", bird.V4.String(), bird.V6.String(), testbed.BIRDASN)
	b.routed(addresses, []string{"frr"}, "node1")
	b.routed(addresses, []string{"bird"}, "node2", "node3")

	b.configure(b.config)
	b.established(b.nodes(), allPeers...)
	_, err := b.c.Kubectl(b.Context(), "label", "node", "--all", "example.com/tor-", "example.com/tor-v6-", "example.com/tor-asn-")
	require.NoError(b, err)
	b.routed(addresses, bothRouters, b.nodes()...)
	b.delete("labels")
}

// crossedFamilies: prefixes of each family over sessions of the other one. Those of IPv4 have
// IPv6 next hops (RFC 8950), and go to no router that does not say that it takes them; those of
// IPv6 have the node's own address as ever.
func (b bgp) crossedFamilies() {
	addresses := b.service("crossed", nil)
	v4, v6 := netip.PrefixFrom(addresses[0], 32), netip.PrefixFrom(addresses[1], 128)
	b.routed(addresses, bothRouters, b.nodes()...)
	b.crossRouters()
	b.configure(strings.NewReplacer(
		"name: frr,", "name: frr, families: [ipv6],", "name: bird,", "name: bird, families: [ipv6],",
		"name: frr-v6,", "name: frr-v6, families: [ipv4], extendedNextHop: true,",
		"name: bird-v6,", "name: bird-v6, families: [ipv4], extendedNextHop: true,",
	).Replace(b.config))
	b.established(b.nodes(), allPeers...)
	b.routed(addresses[1:], bothRouters, b.nodes()...)
	b.routed(addresses[:1], []string{"frr"})
	b.eventually(func(t *assert.CollectT) {
		require.Contains(t, b.metrics("node1"), "baremetal_announcer_bgp_routes_sent{peer=\"bird-v6\"} 1\n")
		require.Contains(t, b.metrics("node1"), "baremetal_announcer_bgp_routes_sent{peer=\"frr-v6\"} 0\n")
	}, "a router without the capability is told nothing")
	_, err := b.c.FRR(b.Context(), "configure terminal", fmt.Sprintf("router bgp %d", testbed.FRRASN), "neighbor nodes6 capability extended-nexthop")
	require.NoError(b, err)
	for _, router := range bothRouters {
		b.eventually(func(t *assert.CollectT) {
			hops, err := b.nextHops(router, v4)
			require.NoError(t, err)
			require.Equal(t, b.hopsOf(v6, b.nodes()), hops)
		}, "next hops of %s on %s", v4, router)
		b.prefixRouted(v6, []string{router}, b.nodes()...)
		b.through(router, addresses[0])
		b.through(router, addresses[1])
	}
	b.says("crossed", "baremetal.cloud/Announced", "Announced")
	b.delete("crossed")
	b.routed(addresses, bothRouters)
	b.configure(b.config)
	b.established(b.nodes(), allPeers...)
}

// crossRouters has each session of the routers carry both families.
func (b bgp) crossRouters() {
	b.Helper()
	_, err := b.c.FRR(b.Context(), "configure terminal", fmt.Sprintf("router bgp %d", testbed.FRRASN),
		"address-family ipv4 unicast", "neighbor nodes6 activate", "neighbor nodes6 route-map nothing out", "exit-address-family",
		"address-family ipv6 unicast", "neighbor nodes activate", "neighbor nodes route-map nothing out", "neighbor nodes route-map global in", "exit-address-family")
	require.NoError(b, err)
	require.NoError(b, b.c.ConfigureBIRD(b.Context(), func(config string) string {
		return strings.NewReplacer(
			"  ipv4 { import all; export none; };\n", "  ipv4 { import all; export none; };\n  ipv6 { import all; export none; };\n",
			"  ipv6 { import all; export none; };\n", "  ipv4 { import all; export none; extended next hop on; };\n  ipv6 { import all; export none; };\n",
		).Replace(config)
	}))
}

// defaultRoute makes gateway a node's default gateway of its family.
func (b bgp) defaultRoute(node string, gateway netip.Addr) {
	b.Helper()
	family := "-4"
	if gateway.Is6() {
		family = "-6"
	}
	_, err := b.c.In(b.Context(), node, "ip", family, "route", "replace", "default", "via", gateway.WithZone("").String(), "dev", "eth0")
	require.NoError(b, err)
}

// linkLocal returns the IPv6 link-local address of a host.
func (b bgp) linkLocal(host string) netip.Addr {
	b.Helper()
	out, err := b.c.In(b.Context(), host, "ip", "-j", "-6", "address", "show", "dev", "eth0", "scope", "link")
	require.NoError(b, err)
	var links []struct {
		AddrInfo []struct{ Local netip.Addr } `json:"addr_info"`
	}
	require.NoError(b, json.Unmarshal([]byte(out), &links), out)
	for _, l := range links {
		for _, a := range l.AddrInfo {
			if a.Local.IsValid() { // some objects are empty
				return a.Local
			}
		}
	}
	require.Fail(b, host+" has no link-local address", out)
	return netip.Addr{}
}

// linkLocalNeighbours has FRR take node as a neighbour by its link-local address, and BIRD all
// nodes.
func (b bgp) linkLocalNeighbours(node string) {
	b.Helper()
	neighbour := "neighbor " + b.linkLocal(node).String()
	_, err := b.c.FRR(b.Context(), "configure terminal", fmt.Sprintf("router bgp %d", testbed.FRRASN), neighbour+" peer-group nodes6", neighbour+" interface eth0")
	require.NoError(b, err)
	require.NoError(b, b.c.ConfigureBIRD(b.Context(), func(config string) string {
		return config + fmt.Sprintf("protocol bgp linklocal { local as %d; neighbor range fe80::/10 as %d; interface \"eth0\"; dynamic name \"local\"; error wait time 1, 2; bfd on; ipv6 { import all; export none; }; }\n",
			testbed.BIRDASN, testbed.NodeASN)
	}))
}
