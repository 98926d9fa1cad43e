package failover

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// interfaces reads "name=prefix,prefix name=..."; a name after a - is down.
func interfaces(text string) []plan.Interface {
	var out []plan.Interface
	for word := range strings.FieldsSeq(text) {
		name, prefixes, _ := strings.Cut(word, "=")
		name, down := strings.CutPrefix(name, "-")
		i := plan.Interface{Name: name, Down: down}
		for p := range strings.SplitSeq(prefixes, ",") {
			i.Prefixes = append(i.Prefixes, netip.MustParsePrefix(p))
		}
		out = append(out, i)
	}
	return out
}

func TestReach(t *testing.T) {
	for name, test := range map[string]struct{ own, carries, peer, want string }{
		"a shared IPv4 prefix":        {"eth0=192.0.2.1/24,fe80::1/64", "", "eth0=192.0.2.2/24,fe80::2/64", "eth0 192.0.2.2:10272"},
		"no IPv4":                     {"eth0=2001:db8::1/64,fe80::1/64", "", "ens1=2001:db8::2/64,fe80::2/64", "eth0 [fe80::2%eth0]:10272"},
		"another IPv4 prefix":         {"eth0=192.0.2.1/24,fe80::1/64", "", "eth0=198.51.100.2/24,fe80::2/64", "eth0 [fe80::2%eth0]:10272"},
		"where addresses are carried": {"eth0=192.0.2.1/24 eth1=fe80::1/64", "eth1", "eth0=192.0.2.2/24 eth1=fe80::2/64", "eth1 [fe80::2%eth1]:10272"},
		"the same segment by its prefix": {
			"eth0=fe80::1/64 eth1=2001:db8::1/64,fe80::3/64", "", "eth0=2001:db8::2/64,fe80::2/64", "eth1 [fe80::2%eth1]:10272",
		},
		"an address that both have": {"eth0=192.0.2.1/24", "", "eth0=192.0.2.1/24", "none"},
		"prefixes of two lengths":   {"eth0=192.0.2.1/16", "", "eth0=192.0.3.2/24", "none"},
		"the own one is down":       {"-eth0=192.0.2.1/24", "", "eth0=192.0.2.2/24", "none"},
		"the peer's was down":       {"eth0=192.0.2.1/24", "", "-eth0=192.0.2.2/24", "eth0 192.0.2.2:10272"},
		"nothing in common":         {"eth0=192.0.2.1/24", "", "eth0=2001:db8::2/64", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			paths := Reach(interfaces(test.own), func(name string) bool { return name == test.carries },
				plan.Peer{Node: "b", Interfaces: interfaces(test.peer)})
			got := "none"
			if len(paths) > 0 {
				got = paths[0].Interface + " " + paths[0].To.String()
			}
			require.Equal(t, test.want, got)
		})
	}
}

// The Node's own address comes before ones that move, of which all are tried.
func TestReachPrefersTheNodesOwnAddress(t *testing.T) {
	paths := Reach(interfaces("eth0=192.0.2.1/24,fe80::1/64"), func(string) bool { return true }, plan.Peer{
		Node: "b", Interfaces: interfaces("eth0=192.0.2.2/24,192.0.2.3/24,192.0.2.4/24,fe80::2/64"), Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.3")},
	})
	var got []string
	for _, p := range paths {
		got = append(got, p.To.Addr().String())
	}
	require.Equal(t, []string{"192.0.2.3", "fe80::2%eth0", "192.0.2.2", "192.0.2.4"}, got)
}

func TestOnLink(t *testing.T) {
	i := interfaces("eth0=192.0.2.1/24,198.51.100.1/32,2001:db8::1/64,fe80::1/64")[0]
	for from, want := range map[string]bool{
		"192.0.2.2": true, "192.0.2.1": false, "198.51.100.1": false, "203.0.113.1": false,
		"fe80::2%eth0": true, "fe80::1%eth0": false, "2001:db8::2": false,
	} {
		require.Equal(t, want, OnLink(i, netip.MustParseAddr(from)), from)
	}
	require.False(t, OnLink(i, netip.Addr{}))
}

// TestDestinations: a peer that is up is where it was heard, and one that is not is looked for.
func TestDestinations(t *testing.T) {
	path := func(name, to string) Path { return Path{name, netip.AddrPortFrom(netip.MustParseAddr(to), Port)} }
	one, two, three := path("eth0", "192.0.2.2"), path("eth0", "192.0.2.3"), path("eth0", "192.0.2.4")
	var d Destinations
	require.Empty(t, d.Next(true))
	d.Guess([]Path{one, two, three})
	require.Equal(t, []Path{one, two}, d.Next(true))
	require.Equal(t, []Path{one, three}, d.Next(true))
	d = Destinations{}
	d.Guess([]Path{one})
	require.Equal(t, []Path{one}, d.Next(false))
	d.Unproven(three)
	require.Equal(t, []Path{three}, d.Next(false), "a life that is not known yet is answered")
	d.Heard(two)
	require.Equal(t, []Path{two}, d.Next(false))
	require.Equal(t, []Path{two, one}, d.Next(true))
	require.Equal(t, []Path{two, one}, d.Next(false), "for a while")
	d.search = 0
	d.Heard(path("eth1", "192.0.2.9"))
	require.Equal(t, []Path{two}, d.Next(false), "it came another way")
	d.Guess(nil)
	require.Equal(t, []Path{two}, d.Next(true))
	d.Heard(path("eth1", "192.0.2.9"))
	require.Equal(t, []Path{path("eth1", "192.0.2.9")}, d.Next(false), "there is no other way")
	d.Guess([]Path{one})
	require.Equal(t, []Path{one}, d.Next(false), "the addresses are carried elsewhere")
}
