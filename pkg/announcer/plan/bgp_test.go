package plan

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// RouteDelta beside what comes of looking every prefix up.
func TestRouteChanges(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	some := func() (routes []Route) {
		for i := range 12 {
			prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i &^ 1)}), 31+i%2)
			if r.IntN(3) > 0 {
				routes = append(routes, Route{Prefix: prefix, Advertisements: []string{"x"}, HealthPort: uint16(r.IntN(2))})
			}
		}
		return routes
	}
	for range 1000 {
		have, want := some(), some()
		var changed, gone []Route
		for _, x := range want {
			if was, ok := FindRoute(have, x.Prefix); !ok || !was.Equal(x) {
				changed = append(changed, x)
			}
		}
		for _, x := range have {
			if _, ok := FindRoute(want, x.Prefix); !ok {
				gone = append(gone, x)
			}
		}
		gotChanged, gotGone := RouteDelta(have, want)
		require.Equal(t, changed, gotChanged, "%v to %v", have, want)
		require.Equal(t, gone, gotGone, "%v to %v", have, want)
	}
}

func TestSameRoutes(t *testing.T) {
	routes := []Route{{HealthPort: 1}, {HealthPort: 1}}
	require.True(t, SameRoutes(routes, routes))
	require.True(t, SameRoutes(nil, routes[:0]))
	require.False(t, SameRoutes(routes, routes[:1]))
	require.False(t, SameRoutes(routes[:1], routes[1:]), "equal, but not the same")
}
