//go:build e2e

package e2e

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// TestBGP shows rows R1 to R11 with FRR and BIRD, over IPv4 and IPv6: what the routers hold,
// and whether a request through them succeeds.
func TestBGP(t *testing.T) {
	b := upBGP(t, 3)
	for _, c := range []struct {
		name string
		play func(bgp)
	}{
		{"one thread of the announcer goes before others, none of its BGP process", bgp.realtime},
		{"R1 every node is a next hop", bgp.everyNode},
		{"R1 Local: nodes with an endpoint", bgp.localPolicy},
		{"R2 no endpoint, exclude label", bgp.withdrawn},
		{"R3 two Services on one address", bgp.sharedRoute},
		{"K5.3 sessions begin anew node by node", bgp.nodeByNode},
		{"R4 R5 R6 advertisements change without a reset", bgp.advertisements},
		{"R7 what cannot work is refused", bgp.refused},
		{"R8 what routers say changes nothing", bgp.learnsNothing},
		{"R9 peers that do not work", bgp.badPeers},
		{"a peer is the node's gateway", bgp.gatewayPeers},
		{"a peer is what the node's labels say", bgp.labelledPeers},
		{"next hops of the other family", bgp.crossedFamilies},
		{"R10 an announcer restarts gracefully", bgp.restart},
		{"R10 the BGP process ends", bgp.processEnds},
		{"R2 SIGTERM without graceful restart", bgp.leaves},
		{"R10 a node is silent", bgp.silentNode},
		{"R11 once kube-proxy serves it", bgp.onceServed},
		{"the control plane is gone", bgp.controlPlaneGone},
	} {
		if !t.Run(c.name, func(t *testing.T) { c.play(b.with(t)) }) {
			break // what comes next would begin from another state
		}
	}
}

// everyNode is R1: with policy Cluster each node announces while there is an endpoint
// anywhere, and a request through either router succeeds.
func (b bgp) everyNode() {
	addresses := b.service("web", func(svc *corev1.Service) { svc.Spec.Selector["node"] = "node2" })
	b.routed(addresses, bothRouters, b.nodes()...)
	for _, router := range bothRouters {
		for _, address := range addresses {
			b.through(router, address)
		}
	}
	b.says("web", "baremetal.cloud/Announced", "Announced")
	b.delete("web")
	b.routed(addresses, bothRouters)
}

// localPolicy is R1: with policy Local the nodes that have an endpoint.
func (b bgp) localPolicy() {
	addresses := b.service("local", func(svc *corev1.Service) {
		svc.Spec.Selector["node"] = "node2"
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	})
	b.routed(addresses, bothRouters, "node2")
	for _, address := range addresses {
		b.through("frr", address)
	}
	b.change("local", func(svc *corev1.Service) { svc.Spec.Selector["node"] = "node3" })
	b.routed(addresses, bothRouters, "node3")
	b.delete("local")
}

// withdrawn is R2: without endpoints nobody announces, with the exclude label not that node.
func (b bgp) withdrawn() {
	const exclude = "node.kubernetes.io/exclude-from-external-load-balancers"
	addresses := b.service("gone", nil)
	b.routed(addresses, bothRouters, b.nodes()...)
	b.label("node3", exclude, "true")
	b.routed(addresses, bothRouters, "node1", "node2")
	b.unlabel("node3", exclude)
	b.routed(addresses, bothRouters, b.nodes()...)
	b.change("gone", func(svc *corev1.Service) { svc.Spec.Selector["node"] = "none" })
	b.routed(addresses, bothRouters)
	b.says("gone", "baremetal.cloud/Announced", "NoEndpoints")
	b.delete("gone")
}

// sharedRoute is R3: the route of an address that two Services share stays until the last
// of them is gone.
func (b bgp) sharedRoute() {
	share := func(port int32) func(*corev1.Service) {
		return func(svc *corev1.Service) {
			svc.Annotations["baremetal.cloud/sharing-key"] = "one"
			svc.Spec.Ports[0].Port = port
		}
	}
	addresses := b.service("first", share(80))
	require.Equal(b, addresses, b.service("second", share(81)))
	b.routed(addresses, bothRouters, b.nodes()...)
	b.delete("first")
	b.says("second", "baremetal.cloud/Announced", "Announced")
	b.routed(addresses, bothRouters, b.nodes()...)
	b.delete("second")
	b.routed(addresses, bothRouters)
}

// advertisements are R4, R5 and R6.
func (b bgp) advertisements() {
	addresses := b.service("attributes", nil)
	v4 := netip.PrefixFrom(addresses[0], 32)
	v6 := netip.PrefixFrom(addresses[1], 128)
	wide4, _ := addresses[0].Prefix(28)
	wide6, _ := addresses[1].Prefix(112)
	b.routed(addresses, bothRouters, b.nodes()...)
	before := b.establishments()

	named := strings.Replace(b.config, "\nbgp:\n", "\nbgp:\n  communities: {gold: \"64512:7\"}\n", 1)
	b.configure(strings.Replace(named, "  bgp: [{}]\n", `  bgp:
  - {peers: [frr, frr-v6], communities: [gold, no-export, "64512:1:2"], med: 50, asPathPrepend: 2, localPref: 300}
  - {peers: [bird, bird-v6], communities: ["64512:100"], nodeSelectors: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node1, node2]}]}]}
  - {aggregationLength: 28, aggregationLengthV6: 112, communities: ["64512:28"]}
`, 1))
	for _, prefix := range []netip.Prefix{v4, v6} {
		b.eventually(func(t *assert.CollectT) {
			paths := b.frrPaths(prefix)
			require.Len(t, paths, 3)
			for hop, p := range paths {
				require.Equal(t, heard{"64512 64512 64512", "64512:7 no-export", "64512:1:2", 50, 0}, p, hop)
			}
		}, "what FRR heard of %s", prefix)
		b.prefixRouted(prefix, []string{"frr"}, b.nodes()...)
		b.prefixRouted(prefix, []string{"bird"}, "node1", "node2")
		b.eventually(func(t *assert.CollectT) {
			route := b.birdRoute(prefix)
			require.Equal(t, 2, strings.Count(route, "BGP.community: (64512,100)"), route)
			require.NotContains(t, route, "BGP.med")
			require.NotContains(t, route, "BGP.large_community")
		}, "what BIRD heard of %s", prefix)
	}
	for _, prefix := range []netip.Prefix{wide4, wide6} {
		b.prefixRouted(prefix, bothRouters, b.nodes()...)
		require.Contains(b, b.birdRoute(prefix), "BGP.community: (64512,28)")
	}
	b.goOn(before)

	b.configure(b.config)
	b.prefixRouted(wide4, bothRouters)
	b.prefixRouted(wide6, bothRouters)
	b.routed(addresses, bothRouters, b.nodes()...)
	b.goOn(before)

	b.internalPeer(addresses)
	b.delete("attributes")
}
