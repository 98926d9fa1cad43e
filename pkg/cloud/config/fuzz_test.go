package config

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzParse: no input panics, an error always carries problems within the file, and what
// is accepted keeps every promise of Config, checked here in the plainest way.
func FuzzParse(f *testing.F) {
	reference, err := os.ReadFile("../../../docs/reference.yaml")
	require.NoError(f, err)
	f.Add(string(reference))
	f.Add(head + pool)
	f.Add(head + pool + "  l2: [{interface: can_reach:192.0.2.1}]\nreservations: [{service: a/b, addresses: [192.0.2.1]}]\n")
	f.Add(head + pool + "  l2: {nodeSelector: {matchLabels: {a: b}}}\n  serviceSelector: {}\nsight: {detectMultiplier: 2}\nloadBalancerClass: a/b\n")
	f.Add(head + pool + "  l2: [{nodeSelectors: [{matchLabels: {a: b}}, {}]}, {}]\n  namespaceSelectors: [{}]\nloadBalancerClasses: [a/b, c/d]\nservicesWithoutClass: false\n")
	f.Add(head + "nodes: {providerID: \"a://{name}\", zoneLabel: rack}\n")
	f.Add(head + "pools: &a [*a]\n")
	f.Add(head + routed + "  bgp: [{peers: [in], communities: [no-export], localPref: 7, aggregationLength: 26}]\n")
	f.Add("[[[{{{")
	f.Fuzz(func(t *testing.T, text string) {
		c, _, err := Parse([]byte(text), "c.yaml")
		if err != nil {
			require.Nil(t, c)
			checkError(t, text, err)
			return
		}
		checkConfig(t, c)
		again, _, err := Parse([]byte(text), "c.yaml")
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}

func checkError(t *testing.T, text string, err error) {
	var e *Error
	require.ErrorAs(t, err, &e)
	require.NotEmpty(t, e.Problems)
	lines := strings.Count(text, "\n") + strings.Count(text, "\r") + strings.Count(text, "\u0085") +
		strings.Count(text, "\u2028") + strings.Count(text, "\u2029") + 2 // what YAML takes for line ends
	for _, p := range e.Problems {
		require.NotEmpty(t, p.Message)
		require.LessOrEqual(t, p.Line, lines, "%+v", p)
	}
}

func checkConfig(t *testing.T, c *Config) {
	require.Contains(t, []ShrinkPolicy{ShrinkRefuse, ShrinkReassign}, c.OnShrink)
	if c.Nodes != nil {
		require.NotEqual(t, c.Nodes.ProviderIDOf("a"), c.Nodes.ProviderIDOf("b"))
		require.NotContains(t, c.Nodes.ProviderIDOf("a"), "{")
	}
	names := map[string]bool{}
	for i, p := range c.Pools {
		require.NotEmpty(t, p.Name)
		require.False(t, names[p.Name])
		names[p.Name] = true
		require.True(t, len(p.L2) > 0 || len(p.BGP) > 0, "a pool is announced somehow")
		checkAdvertisements(t, c, p)
		require.NotEmpty(t, p.Ranges)
		require.GreaterOrEqual(t, p.MaxPerNamespace, 0)
		require.GreaterOrEqual(t, p.ReuseAfter.Nanoseconds(), int64(0))
		for j, r := range p.Ranges {
			require.False(t, r.Last.Less(r.First))
			for k, q := range c.Pools[:i+1] {
				for l, o := range q.Ranges {
					require.False(t, (i != k || j != l) && r.Overlaps(o))
				}
			}
		}
	}
	for _, r := range c.Reservations {
		require.NotEmpty(t, r.Namespace)
		require.NotEmpty(t, r.Name)
		for _, a := range r.Addresses {
			require.True(t, inPools(c, a), "%s", a)
		}
	}
}

// checkAdvertisements checks what the planner and the nodes take for granted.
func checkAdvertisements(t *testing.T, c *Config, p Pool) {
	known := map[string]Peer{}
	for _, peer := range c.BGP.Peers {
		require.NotContains(t, known, peer.Name)
		require.True(t, peer.IPv4 || peer.IPv6 || !peer.Template.IsZero())
		require.GreaterOrEqual(t, peer.HoldTime, minHoldTime)
		require.Less(t, peer.KeepaliveTime, peer.HoldTime)
		require.Zero(t, peer.HoldTime%time.Second+peer.KeepaliveTime%time.Second+peer.ConnectRetryTime%time.Second+peer.GracefulRestart%time.Second)
		require.False(t, peer.EBGPMultihop > 0 && peer.TTLSecurity > 0)
		known[peer.Name] = peer
	}
	for _, a := range p.BGP {
		require.NotEmpty(t, a.Peers)
		for _, name := range a.Peers {
			require.Contains(t, known, name)
		}
		for _, r := range p.Ranges {
			for _, edge := range []netip.Addr{r.First, r.Last} {
				prefix, err := edge.Prefix(a.prefixLength(edge))
				require.NoError(t, err)
				require.True(t, r.Contains(prefix.Addr()) && r.Contains(lastOf(prefix)), "%s of %s", prefix, rangeText(r))
			}
		}
	}
}

func inPools(c *Config, a netip.Addr) bool {
	for _, p := range c.Pools {
		for _, r := range p.Ranges {
			if r.Contains(a) {
				return true
			}
		}
	}
	return false
}
