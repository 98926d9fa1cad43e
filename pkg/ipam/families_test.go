package ipam

import (
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/reason"
)

// TestFamilies walks the table of behaviours.md, Families.
func TestFamilies(t *testing.T) {
	const v4, v6 = "10.0.0.0", "2001:db8::"
	worlds := []struct {
		name  string
		pools []string
		fill  []Family
	}{
		{"v4 only", []string{"10.0.0.0/32"}, nil},
		{"v6 only", []string{"2001:db8::/128"}, nil},
		{"both", []string{"10.0.0.0/32", "2001:db8::/128"}, nil},
		{"v4 full", []string{"10.0.0.0/32", "2001:db8::/128"}, []Family{IPv4}},
		{"v6 full", []string{"10.0.0.0/32", "2001:db8::/128"}, []Family{IPv6}},
		{"both full", []string{"10.0.0.0/32", "2001:db8::/128"}, []Family{IPv4, IPv6}},
	}
	reversed := families(IPv6, IPv4)
	rows := []struct {
		name string
		ask  []func(*Request)
		want map[string][]string // by world; absent is refused
	}{
		{"SingleStack v4", []func(*Request){families(IPv4)}, map[string][]string{"v4 only": {v4}, "both": {v4}, "v6 full": {v4}}},
		{"SingleStack v6", []func(*Request){families(IPv6)}, map[string][]string{"v6 only": {v6}, "both": {v6}, "v4 full": {v6}}},
		{"PreferDualStack", []func(*Request){preferDual}, map[string][]string{"v4 only": {v4}, "v6 only": {v6}, "both": {v4, v6}, "v4 full": {v6}, "v6 full": {v4}}},
		{"PreferDualStack v6 first", []func(*Request){preferDual, reversed}, map[string][]string{"v4 only": {v4}, "v6 only": {v6}, "both": {v6, v4}, "v4 full": {v6}, "v6 full": {v4}}},
		{"RequireDualStack", []func(*Request){requireDual}, map[string][]string{"both": {v4, v6}}},
		{"RequireDualStack v6 first", []func(*Request){requireDual, reversed}, map[string][]string{"both": {v6, v4}}},
	}
	for _, row := range rows {
		for _, w := range worlds {
			t.Run(row.name+"/"+w.name, func(t *testing.T) {
				a := newAllocator(t, newPool(t, "p", w.pools...))
				for _, f := range w.fill {
					_, err := a.Assign(service("filler-"+f.String(), families(f)), epoch)
					require.NoError(t, err)
				}
				result, err := a.Assign(service("s", row.ask...), epoch)
				want, ok := row.want[w.name]
				require.Equal(t, ok, err == nil, "%v", err)
				require.Equal(t, want, texts(result))
				require.Equal(t, len(want), len(a.Held("uid-s")), "nothing else is held")
			})
		}
	}
}

// Families: a second family that fails rolls back only what this call took.
func TestSecondFamilyFails(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/31", "2001:db8::/128"))
	granted(t, a, service("other", families(IPv6)), "2001:db8::")
	granted(t, a, service("s1"), "10.0.0.0")
	refused(t, a, service("s1", requireDual), reason.PoolExhausted, "10.0.0.0")
	refused(t, a, service("s2", requireDual), reason.PoolExhausted)
	require.Equal(t, 1, a.Usage()[0].Held, "what s2 could have had is free")
	a.Release("uid-other", epoch)
	granted(t, a, service("s1", requireDual), "10.0.0.0", "2001:db8::")
}

// Families: SingleStack to dual keeps the first, dual to SingleStack frees the second.
func TestChangeOfFamilyPolicy(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/31", "2001:db8::/127"))
	granted(t, a, service("s1"), "10.0.0.0")
	granted(t, a, service("s1", requireDual), "10.0.0.0", "2001:db8::")
	granted(t, a, service("s1", families(IPv6)), "2001:db8::")
	granted(t, a, service("s1", preferDual, families(IPv6, IPv4)), "2001:db8::", "10.0.0.1")
}

// Families: PreferDualStack has the one family that there is, and gains the other.
func TestPreferDualStackGainsTheSecondFamilyLater(t *testing.T) {
	a := newAllocator(t, newPool(t, "p", "10.0.0.0/30"))
	result := granted(t, a, service("s1", preferDual), "10.0.0.0")
	require.NotNil(t, result.Missing)
	require.NoError(t, a.Configure(Config{Pools: []Pool{newPool(t, "p", "10.0.0.0/30", "2001:db8::/64")}}))
	require.Nil(t, granted(t, a, service("s1", preferDual), "10.0.0.0", "2001:db8::").Missing)
}
