package ipam

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/reason"
)

// TestIP22AnyOrderOfCases plays cases of one Service in random order. Each ends the same
// way whatever came before: with exactly its addresses, or refused for its reason with what
// was held before. In the end nothing is left of any.
func TestIP22AnyOrderOfCases(t *testing.T) {
	small := newPool(t, "small", "10.1.0.0/32", "2001:db8:1::/128")
	small.AutoAssign = false
	forbidden := newPool(t, "forbidden", "10.2.0.0/30")
	forbidden.Namespaces = []string{"elsewhere"}
	cases := []struct {
		name string
		ask  []func(*Request)
		want []string // or refused:
		why  reason.Reason
	}{
		{"by address", []func(*Request){asking("10.0.0.5")}, []string{"10.0.0.5"}, ""},
		{"by another address", []func(*Request){asking("10.0.0.6")}, []string{"10.0.0.6"}, ""},
		{"both families by address", []func(*Request){requireDual, asking("10.0.0.5", "2001:db8::5")}, []string{"10.0.0.5", "2001:db8::5"}, ""},
		{"IPv6 alone by address", []func(*Request){families(IPv6), asking("2001:db8::6")}, []string{"2001:db8::6"}, ""},
		{"by pool", []func(*Request){from("small")}, []string{"10.1.0.0"}, ""},
		{"both by pool, IPv6 first", []func(*Request){families(IPv6, IPv4), from("small")}, []string{"2001:db8:1::", "10.1.0.0"}, ""},
		{"shared", []func(*Request){sharing("k", "TCP", 81), asking("10.0.0.1")}, []string{"10.0.0.1"}, ""},
		{"held by another", []func(*Request){asking("10.0.0.0")}, nil, reason.AddressInUse},
		{"port in use", []func(*Request){sharing("l", "TCP", 80), asking("10.0.0.2")}, nil, reason.SharingRefused},
		{"outside", []func(*Request){asking("192.0.2.1")}, nil, reason.AddressOutsidePools},
		{"no such pool", []func(*Request){from("none")}, nil, reason.PoolUnknown},
		{"forbidden pool", []func(*Request){from("forbidden")}, nil, reason.PoolNotAllowed},
		{"garbage", []func(*Request){func(r *Request) { r.Unreadable = "garbage" }}, nil, reason.RequestInvalid},
		{"two of a family", []func(*Request){asking("10.0.0.5", "10.0.0.6")}, nil, reason.RequestInvalid},
		{"one for two", []func(*Request){requireDual, asking("10.0.0.5")}, nil, reason.RequestInvalid},
		{"deleted", nil, nil, ""},
	}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 22))
		a := newAllocator(t, newPool(t, "default", "10.0.0.0/28", "2001:db8::/64"), small, forbidden)
		granted(t, a, service("a"), "10.0.0.0")
		granted(t, a, service("b", sharing("k", "TCP", 80)), "10.0.0.1")
		granted(t, a, service("c", sharing("l", "TCP", 80)), "10.0.0.2")
		for _, i := range append(random.Perm(len(cases)), random.Perm(len(cases))...) {
			c := cases[i]
			before := a.Held("uid-subject")
			if c.ask == nil {
				a.Release("uid-subject", epoch)
				require.Empty(t, a.Held("uid-subject"))
				continue
			}
			result, err := a.Assign(service("subject", c.ask...), epoch)
			if c.why != "" {
				require.Error(t, err, "seed %d, %s", seed, c.name)
				require.Equal(t, c.why, err.(*Refusal).Reason, "seed %d, %s", seed, c.name)
				require.Equal(t, before, a.Held("uid-subject"), "seed %d, %s: a refusal changes nothing", seed, c.name)
			} else {
				require.NoError(t, err, "seed %d, %s", seed, c.name)
				require.Equal(t, c.want, texts(result), "seed %d, %s", seed, c.name)
				require.Empty(t, result.Clashes, "seed %d, %s", seed, c.name)
			}
		}
		a.Release("uid-subject", epoch)
		audit(t, a)
		require.Equal(t, 3, len(a.records), "seed %d: the others have what they had, and there is nobody else", seed)
		granted(t, a, service("a"), "10.0.0.0")
		granted(t, a, service("b", sharing("k", "TCP", 80)), "10.0.0.1")
		granted(t, a, service("c", sharing("l", "TCP", 80)), "10.0.0.2")
	}
}
