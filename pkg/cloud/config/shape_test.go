package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/ipam"
)

// A file of an older shape is refused, and each message shows the shape of today.
func TestOldShapes(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"layer 2 without a list": {pool + "  l2: {interface: eth0}\n",
			"c.yaml:6:7: pools[0].l2: want a list, got a mapping; write l2: [{interface: eth0}]"},
		"layer 2 without a list and an old key in it": {pool + "  l2:\n    nodeSelector: {matchLabels: {rack: a}}\n    interface: /eth\n",
			"c.yaml:7:5: pools[0].l2: want a list, got a mapping; write l2: [{interface: eth0}]\n" +
				"c.yaml:7:5: pools[0].l2[0].nodeSelector: has been replaced by nodeSelectors; write nodeSelectors: [{matchLabels: {rack: a}}]\n" +
				`c.yaml:8:16: pools[0].l2[0].interface: "/eth" is not a regular expression; write it between two slashes, like /bond.*/`},
		"selectors of a pool": {pool + "  namespaceSelector: {}\n  serviceSelector: {matchLabels: {tier: gold}}\n",
			"c.yaml:6:3: pools[0].namespaceSelector: has been replaced by namespaceSelectors; write namespaceSelectors: [{matchLabels: {team: a}}]\n" +
				"c.yaml:7:3: pools[0].serviceSelector: has been replaced by serviceSelectors; write serviceSelectors: [{matchLabels: {tier: gold}}]"},
		"selectors without a list": {pool + "  serviceSelectors: {matchLabel: {tier: gold}}\n",
			"c.yaml:6:21: pools[0].serviceSelectors: want a list, got a mapping; write serviceSelectors: [{matchLabels: {tier: gold}}]\n" +
				"c.yaml:6:22: pools[0].serviceSelectors[0].matchLabel: unknown key; did you mean matchLabels?"},
		"selector of a peer": {peer("nodeSelector: {matchLabels: {rack: a}}"),
			"c.yaml:5:68: bgp.peers[0].nodeSelector: has been replaced by nodeSelectors; write nodeSelectors: [{matchLabels: {rack: a}}]"},
		"selector of an advertisement": {routed + "  bgp:\n  - nodeSelector:\n      matchLabels: {rack: a}\n",
			"c.yaml:11:5: pools[0].bgp[0].nodeSelector: has been replaced by nodeSelectors; write nodeSelectors: [{matchLabels: {rack: a}}]"},
		"one class": {"loadBalancerClass: example.org/lb\n" + pool,
			"c.yaml:3:1: loadBalancerClass: has been replaced by loadBalancerClasses; write loadBalancerClasses: [baremetal.cloud/lb]"},
		"classes without a list": {"loadBalancerClasses: /lb\n" + pool,
			"c.yaml:3:22: loadBalancerClasses: want a list, got the string \"/lb\"; write loadBalancerClasses: [baremetal.cloud/lb]\n" +
				"c.yaml:3:22: loadBalancerClasses[0]: \"/lb\": prefix part must be non-empty"},
		"sight": {"sight: {transmitInterval: 100ms}\n" + pool,
			"c.yaml:3:1: sight: has been replaced by failover; write failover: {transmitInterval: 100ms, detectMultiplier: 3}"},
		"an old key where it never was": {"nodeSelector: {}\n" + pool,
			"c.yaml:3:1: nodeSelector: unknown key; known are announce, apiVersion, bgp, conflicts, failover, kind, loadBalancerClasses, nodeHealth, nodes, onShrink, pools, rebalance, reservations, servicesWithoutClass"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { requireRefused(t, tt.text, tt.want) })
	}
}

// What of a list has no effect, or cannot be done by this version yet, is refused, and not
// ignored.
func TestSeveralEntries(t *testing.T) {
	const one = "{matchLabels: {a: b}}"
	const empty = "an empty selector matches everything, so the others have no effect; remove it, or remove the others"
	tests := map[string]struct{ text, want string }{
		"layer 2": {pool + "  l2:\n  - interface: eth0\n  - interface: eth1\n",
			"c.yaml:8:5: pools[0].l2[1]: a second entry is not supported by this version yet; leave only one; it may have several nodeSelectors, and an interface like /eth0|bond0/"},
		"layer 2 of none": {pool + "  l2: []\n",
			"c.yaml:6:7: pools[0].l2: an empty list announces nothing; write [{}] to announce it on layer 2, or remove the key"},
		"three, of which one is wrong": {pool + "  l2: [{}, {}, {interfaces: eth0}]\n",
			"c.yaml:6:12: pools[0].l2[1]: a second entry is not supported by this version yet; leave only one; it may have several nodeSelectors, and an interface like /eth0|bond0/\n" +
				"c.yaml:6:17: pools[0].l2[2].interfaces: unknown key; write interface: with one name, or an expression like /eth0|bond0/, in l2"},
		"nodes of an advertisement": {routed + "  bgp: [{nodeSelectors: [" + one + ", {}]}]\n",
			"c.yaml:10:49: pools[0].bgp[0].nodeSelectors[1]: " + empty},
		"nodes of a peer": {peer("nodeSelectors: [" + one + ", {}]"),
			"c.yaml:5:107: bgp.peers[0].nodeSelectors[1]: " + empty},
		"namespaces and Services": {pool + "  namespaceSelectors: [" + one + ", {}]\n  serviceSelectors: [" + one + ", {}]\n",
			"c.yaml:6:47: pools[0].namespaceSelectors[1]: " + empty + "\n" +
				"c.yaml:7:45: pools[0].serviceSelectors[1]: " + empty},
		"a class twice": {"loadBalancerClasses: [a.example/lb, b.example/lb, a.example/lb]\n" + pool,
			"c.yaml:3:51: loadBalancerClasses[2]: \"a.example/lb\" is listed twice; remove one of the two"},
		"a class without a name": {"loadBalancerClasses: [\"\"]\n" + pool,
			"c.yaml:3:23: loadBalancerClasses[0]: \"\": name part must be non-empty\n" +
				"c.yaml:3:23: loadBalancerClasses[0]: \"\": " + badName},
		"Services without a class, not a boolean": {"servicesWithoutClass: [no]\n" + pool,
			"c.yaml:3:23: servicesWithoutClass: want a single value, got a list; write it without brackets"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { requireRefused(t, tt.text, tt.want) })
	}
}

func requireRefused(t *testing.T, text, want string) {
	t.Helper()
	c, _, err := Parse([]byte(head+text), "c.yaml")
	require.Nil(t, c)
	require.EqualError(t, err, want)
}

// What the messages show is a cloud-config of today.
func TestExamplesOfShapes(t *testing.T) {
	for _, key := range []string{"failover", "loadBalancerClasses"} {
		parse(t, pool+examples[key]+"\n")
	}
	for _, key := range []string{"l2", "namespaceSelectors", "serviceSelectors"} {
		parse(t, pool+"  "+examples[key]+"\n")
	}
	parse(t, pool+"  l2: [{"+examples["nodeSelectors"]+"}]\n")
	require.Len(t, examples, 6)
	for old, now := range replaced {
		require.NotEmpty(t, examples[now], old)
	}
}

func TestClasses(t *testing.T) {
	c := parse(t, "servicesWithoutClass: true\n"+pool)
	require.Empty(t, c.LoadBalancerClasses)
	require.True(t, c.ServicesWithoutClass)
	require.True(t, parse(t, pool).ServicesWithoutClass)
	c = parse(t, "servicesWithoutClass: false\nloadBalancerClasses: [example.org/lb, b.example/lb]\n"+pool)
	require.Equal(t, []string{"example.org/lb", "b.example/lb"}, c.LoadBalancerClasses)
	require.False(t, c.ServicesWithoutClass)

	_, warnings, err := Parse([]byte(head+"servicesWithoutClass: false\n"+pool), "c.yaml")
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	require.Equal(t, "c.yaml:3:23: servicesWithoutClass: with false and no loadBalancerClasses no Service is served; add loadBalancerClasses: [baremetal.cloud/lb]", warnings[0].String())
}

// Of several selectors one has to match.
func TestSelectorsAreAlternatives(t *testing.T) {
	const both = "[{matchLabels: {rack: a, row: \"1\"}}, {matchExpressions: [{key: rack, operator: In, values: [b, c]}]}]"
	p := parse(t, pool+"  l2: [{nodeSelectors: "+both+"}]\n  namespaceSelectors: "+both+"\n  serviceSelectors: "+both+"\n").Pools[0]
	for name, s := range map[string]ipam.Selector{"nodes": p.L2[0].NodeSelector, "namespaces": p.NamespaceSelector, "Services": p.ServiceSelector} {
		require.True(t, s.Matches(map[string]string{"rack": "a", "row": "1"}), name)
		require.True(t, s.Matches(map[string]string{"rack": "c"}), name)
		require.False(t, s.Matches(map[string]string{"rack": "a"}), name)
		require.False(t, s.Matches(nil), name)
		require.Equal(t, "rack=a,row=1 or rack in (b,c)", s.String(), name)
	}
	// Two peers at one address are refused where a selector is common to both.
	two := "bgp: {peers: [{name: x, address: 192.0.2.1, localASN: 1, peerASN: 2, nodeSelectors: " + both + "}, " +
		"{name: y, address: 192.0.2.1, localASN: 1, peerASN: 2, nodeSelectors: [{matchLabels: {rack: z}}, {matchLabels: {row: \"1\", rack: a}}]}]}\n"
	_, _, err := Parse([]byte(head+two+pool), "c.yaml")
	require.ErrorContains(t, err, `peer "x" has the same address and port`)
	parse(t, strings.ReplaceAll(two, "rack: a}}]}]}", "rack: y}}]}]}")+pool)
}

// Pools and peers are called what the objects of other load balancers may be called.
func TestNames(t *testing.T) {
	longest := strings.Repeat("a", 63) + strings.Repeat("."+strings.Repeat("b", 62), 3) + "c"
	for _, name := range []string{"a", "prod.example.com", "my_pool", "_x", "9", longest} {
		c := parse(t, "bgp: {peers: [{name: \""+name+"\", address: 192.0.2.1, localASN: 1, peerASN: 2}]}\n"+
			"pools: [{name: \""+name+"\", addresses: [198.51.100.0/24], bgp: [{peers: [\""+name+"\"]}]}]\n")
		require.Equal(t, name, c.Pools[0].Name)
		require.Equal(t, []string{name}, c.Pools[0].BGP[0].Peers)
	}
	for _, name := range []string{"", "A", "a/b", "a..b", "-a", "a-", "a b", "ä", longest + "d"} {
		_, _, err := Parse([]byte(head+"pools: [{name: \""+name+"\", addresses: [192.0.2.1]}]\n"), "c.yaml")
		require.ErrorContains(t, err, "c.yaml:3:16: pools[0].name: ", name)
		_, _, err = Parse([]byte(head+"bgp: {peers: [{name: \""+name+"\", address: 192.0.2.1, localASN: 1, peerASN: 2}]}\n"+pool), "c.yaml")
		require.ErrorContains(t, err, "c.yaml:3:22: bgp.peers[0].name: ", name)
	}
	requireRefused(t, "pools: [{name: a, addresses: [192.0.2.1], namespaces: [a.b]}]\n",
		"c.yaml:3:56: pools[0].namespaces[0]: \"a.b\" is not a name: must not contain dots")
}
