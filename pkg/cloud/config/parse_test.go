package config

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/ipam"
)

// head is two lines, so that the first line of a test's own text is line 3.
const head = "apiVersion: baremetal.cloud/v1alpha1\nkind: CloudConfig\n"

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func parse(t *testing.T, text string) *Config {
	t.Helper()
	c, warnings, err := Parse([]byte(head+text), "c.yaml")
	require.NoError(t, err)
	require.Empty(t, usedOnly(warnings))
	return c
}

// usedOnly returns the warnings without those of peers that no pool uses: many tests of peers
// have no pool.
func usedOnly(warnings []Warning) []Warning {
	return slices.DeleteFunc(warnings, func(w Warning) bool { return strings.Contains(w.Message, "no pool is announced to peer") })
}

func TestDefaults(t *testing.T) {
	c := parse(t, "pools:\n- name: default\n  addresses: [192.0.2.0/24]\n")
	require.Equal(t, &Config{
		ServicesWithoutClass: true,
		OnShrink:             ShrinkRefuse,
		Failover:             Failover{TransmitInterval: 100 * time.Millisecond, DetectMultiplier: 3},
		Announce:             Announce{Burst: 100, Interval: 1100 * time.Millisecond, Repeat: 5, Refresh: time.Minute},
		Conflicts:            Conflicts{ProbeAhead: 32, ProbeInterval: 5 * time.Minute, Quarantine: 10 * time.Minute},
		NodeHealth: NodeHealth{
			KubeProxy: "http://127.0.0.1:10256/healthz", UnwellAfter: 30 * time.Second,
		},
		Pools: []Pool{{
			Pool: ipam.Pool{
				Name:       "default",
				Ranges:     []ipam.Range{{First: addr("192.0.2.0"), Last: addr("192.0.2.255")}},
				AutoAssign: true,
				ReuseAfter: 10 * time.Minute,
			},
			L2: []L2{{}},
		}},
	}, c)
}

func TestNodeHealth(t *testing.T) {
	const pools = "pools:\n- {name: a, addresses: [192.0.2.1]}\n"
	require.Equal(t, NodeHealth{UnwellAfter: 30 * time.Second}, parse(t, "nodeHealth: {kubeProxy: \"\"}\n"+pools).NodeHealth)
	require.Equal(t, NodeHealth{KubeProxy: "http://[::1]:80", UnwellAfter: 2 * time.Second, DrainOnCordon: true},
		parse(t, "nodeHealth: {kubeProxy: \"http://[::1]:80\", unwellAfter: 2s, drainOnCordon: true}\n"+pools).NodeHealth)
}

// A key without a value, and an empty selector, are as if they were not given.
func TestEmptyMeansNotGiven(t *testing.T) {
	plain := parse(t, "pools:\n- {name: a, addresses: [192.0.2.1]}\n")
	require.Equal(t, plain, parse(t, `
onShrink:
loadBalancerClasses: []
servicesWithoutClass:
reservations:
pools:
- name: a
  addresses: [192.0.2.1]
  autoAssign:
  reuseAfter:
  namespaces:
  namespaceSelectors: []
  serviceSelectors: [{matchLabels: {}, matchExpressions: []}]
  l2: [{interface: "", nodeSelectors: [{}]}]
`))
}

// A key that is given again after one without a value is read, wherever it stands.
func TestGivenAfterNothing(t *testing.T) {
	c := parse(t, "bgp:\nbgp: {peers: [{name: a, address: 192.0.2.1, localASN: 1, peerASN: 2}]}\nreservations:\n"+pool+
		"reservations: [{service: a/b, addresses: [192.0.2.7]}]\n")
	require.Len(t, c.BGP.Peers, 1)
	require.Len(t, c.Reservations, 1)
}

func TestReference(t *testing.T) {
	data, err := os.ReadFile("../../../docs/reference.yaml")
	require.NoError(t, err)
	c, warnings, err := Parse(data, "reference.yaml")
	require.NoError(t, err)
	require.Empty(t, warnings)

	require.Equal(t, []string{"baremetal.cloud/lb"}, c.LoadBalancerClasses)
	require.Len(t, c.Pools, 3)
	require.Equal(t, 10*time.Minute, c.Pools[0].ReuseAfter)
	require.Equal(t, []L2{{}}, c.Pools[0].L2)

	team := c.Pools[1]
	require.True(t, team.AvoidBuggyIPs)
	require.Equal(t, 10, team.Priority)
	require.Equal(t, 4, team.MaxPerNamespace)
	require.Equal(t, []string{"team-a", "team-a-staging"}, team.SharedNamespaces)
	require.True(t, team.NamespaceSelector.Matches(map[string]string{"team": "a"}))
	require.False(t, team.NamespaceSelector.Matches(map[string]string{"team": "b"}))
	require.True(t, team.ServiceSelector.Matches(map[string]string{"exposed": "yes"}))
	require.False(t, team.ServiceSelector.Matches(nil))
	require.Equal(t, "/bond[0-9]+/", team.L2[0].Interface)
	require.True(t, team.L2[0].NodeSelector.Matches(nil))
	require.False(t, team.L2[0].NodeSelector.Matches(map[string]string{"node-role.kubernetes.io/control-plane": ""}))

	require.Equal(t, []ipam.Reservation{{
		Namespace: "web", Name: "frontend",
		Addresses: []netip.Addr{addr("192.168.50.211"), addr("2001:db8:50::211")},
	}}, c.Reservations)
}

// The commented defaults of docs/reference.yaml are those of the code.
func TestReferenceStatesDefaults(t *testing.T) {
	data, err := os.ReadFile("../../../docs/reference.yaml")
	require.NoError(t, err)
	c, _, err := Parse(data, "reference.yaml")
	require.NoError(t, err)
	plain := parse(t, "nodes: {}\npools: [{name: default, addresses: [192.168.50.211-192.168.50.220, \"2001:db8:50::200-2001:db8:50::2ff\"]}]\n")
	written := c.Pools[0]
	require.Empty(t, written.Namespaces)
	require.Empty(t, written.SharedNamespaces)
	written.Namespaces, written.SharedNamespaces = nil, nil
	require.Equal(t, plain.Pools[0], written)
	require.Equal(t, plain.OnShrink, c.OnShrink)
	require.Equal(t, plain.Nodes, c.Nodes)
	require.Equal(t, plain.Failover, c.Failover)
	require.Equal(t, plain.Conflicts, c.Conflicts)
	require.Equal(t, plain.Announce, c.Announce)
	require.Equal(t, plain.NodeHealth, c.NodeHealth)
	require.Equal(t, plain.MaxMovesPerMinute, c.MaxMovesPerMinute)
}

func TestConflicts(t *testing.T) {
	for text, want := range map[string]Conflicts{
		"":                             {32, 5 * time.Minute, 10 * time.Minute},
		"conflicts:\n":                 {32, 5 * time.Minute, 10 * time.Minute},
		"conflicts: {probeAhead: 0}\n": {0, 5 * time.Minute, 10 * time.Minute},
		"conflicts: {probeAhead: 256, probeInterval: 10s, quarantine: 168h}\n": {256, 10 * time.Second, 7 * 24 * time.Hour},
		"conflicts: {probeInterval: 24h, quarantine: 10s}\n":                   {32, 24 * time.Hour, 10 * time.Second},
	} {
		require.Equal(t, want, parse(t, pool+text).Conflicts, text)
	}
}

func TestFailover(t *testing.T) {
	for text, want := range map[string]Failover{
		"":                                 {100 * time.Millisecond, 3},
		"failover:\n":                      {100 * time.Millisecond, 3},
		"failover: {}\n":                   {100 * time.Millisecond, 3},
		"failover: {detectMultiplier: 20}": {100 * time.Millisecond, 20},
		"failover: {transmitInterval: 20ms, detectMultiplier: 2}": {20 * time.Millisecond, 2},
		"failover: {transmitInterval: 10s}":                       {10 * time.Second, 3},
	} {
		require.Equal(t, want, parse(t, pool+text).Failover, text)
	}
}

func TestFault_K1_9_AnnounceIsConfigured(t *testing.T) {
	const second = time.Second
	for text, want := range map[string]Announce{
		"":                       {Burst: 100, Interval: 1100 * time.Millisecond, Repeat: 5, Refresh: time.Minute},
		"announce: {burst: 5}\n": {Burst: 5, Interval: 1100 * time.Millisecond, Repeat: 5, Refresh: time.Minute},
		"announce: {interval: 2s, repeat: 1, refresh: 1h}\n": {Burst: 100, Interval: 2 * second, Repeat: 1, Refresh: time.Hour},
	} {
		require.Equal(t, want, parse(t, pool+text).Announce, text)
	}
}

func TestNodes(t *testing.T) {
	tests := map[string]struct {
		text string
		want *Nodes
	}{
		"not given":       {"", nil},
		"without a value": {"nodes:\n", nil},
		"defaults":        {"nodes: {}\n", &Nodes{ProviderID: "baremetal://{name}"}},
		"all": {"nodes: {providerID: \"metal3://dc1/{name}.example\", zoneLabel: rack, regionLabel: example.org/site}\n",
			&Nodes{ProviderID: "metal3://dc1/{name}.example", ZoneLabel: "rack", RegionLabel: "example.org/site"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.want, parse(t, pool+tt.text).Nodes) })
	}
	n := Nodes{ProviderID: "metal://{name}/{name}"}
	require.Equal(t, "metal://node1/node1", n.ProviderIDOf("node1"))
}

func TestInterfaceSelectors(t *testing.T) {
	for _, s := range []string{"eth0", "enp0s31f6", "eth0.100", "/eth.*/", "/^(a|b)$/", "can_reach:192.0.2.1", "can_reach:2001:db8::1"} {
		c := parse(t, "pools:\n- name: a\n  addresses: [192.0.2.1]\n  l2: [{interface: \""+s+"\"}]\n")
		require.Equal(t, s, c.Pools[0].L2[0].Interface)
	}
}

func TestWarnings(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"no pools": {"", "c.yaml:1:1: pools: there are no pools: no Service will get an address"},
		"empty selector beside namespaces": {
			"pools:\n- name: a\n  addresses: [192.0.2.1]\n  namespaces: [x]\n  namespaceSelectors: [{}]\n",
			"c.yaml:7:24: pools[0].namespaceSelectors[0]: an empty selector adds nothing to namespaces; remove it, or give it a label"},
		"shared namespace that may not use the pool": {
			"pools:\n- name: a\n  addresses: [192.0.2.1]\n  namespaces: [x]\n  sharedNamespaces: [x, y]\n",
			`c.yaml:7:25: pools[0].sharedNamespaces[1]: "y" may share addresses of the pool and may not use it; add it to namespaces`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, warnings, err := Parse([]byte(head+tt.text), "c.yaml")
			require.NoError(t, err)
			require.Len(t, warnings, 1)
			require.Equal(t, tt.want, warnings[0].String())
		})
	}
}
