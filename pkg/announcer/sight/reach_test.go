package sight

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

// interfaces reads "name=prefix,prefix name=..."; a name after a - is down.
func interfaces(text string) []announcement.Interface {
	var out []announcement.Interface
	for word := range strings.FieldsSeq(text) {
		name, prefixes, _ := strings.Cut(word, "=")
		name, down := strings.CutPrefix(name, "-")
		i := announcement.Interface{Name: name, Down: down}
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
			path, ok := Reach(interfaces(test.own), func(name string) bool { return name == test.carries },
				announcement.Peer{Node: "b", Interfaces: interfaces(test.peer)})
			got := "none"
			if ok {
				got = path.Interface + " " + path.To.String()
			}
			require.Equal(t, test.want, got)
		})
	}
}
