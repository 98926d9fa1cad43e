package plan_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// port is an interface with addresses, each with a route to its segment; what else is said
// about it comes after its name.
func port(name string, change func(*plan.Interface), prefixes ...string) plan.Interface {
	i := plan.Interface{Name: name}
	for _, p := range prefixes {
		i.Prefixes = append(i.Prefixes, netip.MustParsePrefix(p))
		i.Destinations = append(i.Destinations, plan.Destination{Prefix: netip.MustParsePrefix(p).Masked(), OnLink: true})
	}
	if change != nil {
		change(&i)
	}
	return i
}

// down is an interface that is down: the kernel has forgotten its routes.
func down(i *plan.Interface) { i.Down, i.Destinations = true, nil }

// unplugged is one without a carrier: the kernel goes on to use its routes.
func unplugged(i *plan.Interface) { i.Down = true }

// unused is one whose segment the kernel reaches by another interface.
func unused(i *plan.Interface) { i.Destinations = nil }

func gateway(i *plan.Interface) {
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		i.Destinations = append(i.Destinations, plan.Destination{Prefix: netip.MustParsePrefix(all)})
	}
}

func downGateway(i *plan.Interface) {
	gateway(i)
	i.Down = true
}

// TestSelectInterfaces is the rule of row L4: which interface can carry an address. That
// the right one is down makes no other one right.
func TestSelectInterfaces(t *testing.T) {
	const office, storage = "192.0.2.10/24", "10.0.0.10/16"
	type ports []plan.Interface
	for name, test := range map[string]struct {
		selector, address string
		ports             ports
		want              []string
		err               string
	}{
		"none":                              {"", "192.0.2.200", nil, nil, "the node has no interface that can carry an address"},
		"all down":                          {"", "192.0.2.200", ports{port("eth0", down, office)}, nil, "the node has no interface that can carry an address"},
		"on the segment":                    {"", "10.0.9.9", ports{port("eth0", gateway, office), port("eth1", nil, storage)}, []string{"eth1"}, ""},
		"on the narrower segment":           {"", "10.0.9.9", ports{port("eth0", gateway, "10.0.0.1/8"), port("eth1", nil, storage)}, []string{"eth1"}, ""},
		"two on the segment":                {"", "192.0.2.200", ports{port("eth0", unused, office), port("eth1", nil, "192.0.2.11/24"), port("eth2", gateway)}, []string{"eth1"}, ""},
		"two on the segment, by expression": {"/eth[01]/", "192.0.2.200", ports{port("eth0", unused, office), port("eth1", nil, "192.0.2.11/24"), port("eth2", gateway)}, []string{"eth1"}, ""},
		"two on the segment, none is used":  {"/eth[01]/", "192.0.2.200", ports{port("eth0", unused, office), port("eth1", unused, "192.0.2.11/24")}, []string{"eth0"}, ""},
		"one of two has no carrier":         {"", "192.0.2.200", ports{port("eth0", unplugged, office), port("eth1", unused, "192.0.2.11/24")}, nil, "eth0, through which 192.0.2.200 is reached, is down"},
		"a prefix of its own":               {"", "198.51.100.1", ports{port("eth0", gateway, office), port("eth1", nil, storage)}, []string{"eth0"}, ""},
		"no way known":                      {"", "198.51.100.1", ports{port("eth0", nil), port("eth1", nil, storage)}, []string{"eth0", "eth1"}, ""},
		"the segment is down":               {"", "10.0.9.9", ports{port("eth0", gateway, office), port("eth1", down, storage)}, nil, "eth1, through which 10.0.9.9 is reached, is down"},
		"one of two on the segment is down": {"", "192.0.2.200", ports{port("eth0", down, office), port("eth1", nil, "192.0.2.11/24")}, []string{"eth1"}, ""},
		"the default route is down":         {"", "198.51.100.1", ports{port("eth0", downGateway, office), port("eth1", nil, storage)}, nil, "eth0, through which 198.51.100.1 is reached, is down"},
		"another segment is down":           {"", "192.0.2.200", ports{port("eth0", gateway, office), port("eth1", down, storage)}, []string{"eth0"}, ""},
		"by name":                           {"eth1", "192.0.2.200", ports{port("eth0", nil, office), port("eth1", nil, storage)}, []string{"eth1"}, ""},
		"by name, down":                     {"eth1", "10.0.9.9", ports{port("eth0", nil, office), port("eth1", down, storage)}, nil, `there is no usable interface "eth1"`},
		"by expression":                     {"/eth[0-9]/", "10.0.9.9", ports{port("eth0", nil), port("eth1", down, storage), port("eth10", nil), port("eth2", nil)}, []string{"eth0", "eth2"}, ""},
		"by expression, none":               {"/bond.*/", "10.0.9.9", ports{port("eth0", nil)}, nil, "no interface matches /bond.*/"},
		"can reach":                         {"can_reach:10.0.0.1", "192.0.2.200", ports{port("eth0", gateway, office), port("eth1", nil, storage)}, []string{"eth1"}, ""},
		"can reach, elsewhere":              {"can_reach:203.0.113.1", "192.0.2.200", ports{port("eth0", gateway, office), port("eth1", nil, storage)}, []string{"eth0"}, ""},
		"can reach, down":                   {"can_reach:10.0.0.1", "192.0.2.200", ports{port("eth0", gateway, office), port("eth1", down, storage)}, nil, "eth1, through which 10.0.0.1 is reached, is down"},
		"can reach, nowhere":                {"can_reach:203.0.113.1", "192.0.2.200", ports{port("eth0", nil, office)}, nil, "no interface leads to 203.0.113.1"},
	} {
		t.Run(name, func(t *testing.T) {
			selected, err := plan.SelectInterfaces(test.selector, netip.MustParseAddr(test.address), test.ports)
			if test.err != "" {
				require.EqualError(t, err, test.err)
			} else {
				require.NoError(t, err)
			}
			var names []string
			for _, i := range selected {
				names = append(names, i.Name)
			}
			require.Equal(t, test.want, names)
		})
	}
}

func TestCheckSelector(t *testing.T) {
	for _, good := range []string{"", "eth0", "bond0.100", "/eth.*/", "can_reach:192.0.2.1", "can_reach:2001:db8::1"} {
		require.NoError(t, plan.CheckSelector(good), good)
	}
	for bad, why := range map[string]string{
		"/eth(/": "missing closing )", "can_reach:": `"" is no address`, "can_reach:gw": `"gw" is no address`,
		"eth 0": "want a name", "a/b": "want a name", "reach:192.0.2.1": "want a name",
	} {
		require.ErrorContains(t, plan.CheckSelector(bad), why, bad)
	}
}
