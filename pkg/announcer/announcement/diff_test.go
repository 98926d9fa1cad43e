package announcement_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/announcement"
)

func claim(address string, term, revision uint64) announcement.Claim {
	return announcement.Claim{
		Address: netip.MustParseAddr(address),
		Stamp:   announcement.Stamp{Term: term, Revision: revision},
	}
}

func TestDiffOrder(t *testing.T) {
	have := []announcement.Claim{claim("192.0.2.9", 1, 1), claim("192.0.2.3", 1, 1), claim("192.0.2.1", 1, 1), claim("192.0.2.4", 1, 1)}
	want := []announcement.Claim{claim("2001:db8::1", 1, 2), claim("192.0.2.2", 1, 2), claim("192.0.2.3", 1, 2), claim("192.0.2.4", 1, 1)}
	var got []string
	for _, a := range announcement.Diff(have, want) {
		got = append(got, fmt.Sprint(a.Verb, " ", a.Claim.Address, " ", a.Claim.Stamp))
	}
	require.Equal(t, []string{
		"stop 192.0.2.1 1.1", "stop 192.0.2.9 1.1",
		"restamp 192.0.2.3 1.2",
		"start 192.0.2.2 1.2", "start 2001:db8::1 1.2",
	}, got)
	require.Empty(t, announcement.Diff(want, want))
}

// TestDiffAgainstModel applies random differences one by one to a map and compares the
// end with what was wanted. The seed is printed by the failing run's name.
func TestDiffAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			model := map[netip.Addr]announcement.Stamp{}
			var have []announcement.Claim
			for range 20 {
				want := randomClaims(random)
				seen := announcement.Verb(0)
				for _, a := range announcement.Diff(have, want) {
					require.GreaterOrEqual(t, a.Verb, seen)
					seen = a.Verb
					applyToModel(t, model, a)
				}
				require.Len(t, model, len(want))
				for _, c := range want {
					require.Equal(t, c.Stamp, model[c.Address])
				}
				have = want
			}
		})
	}
}

func applyToModel(t *testing.T, model map[netip.Addr]announcement.Stamp, a announcement.Action) {
	t.Helper()
	held, ok := model[a.Claim.Address]
	switch a.Verb {
	case announcement.Stop:
		require.True(t, ok, "stops what is held")
		delete(model, a.Claim.Address)
	case announcement.Restamp:
		require.True(t, ok, "restamps what is held")
		require.NotEqual(t, held, a.Claim.Stamp)
		model[a.Claim.Address] = a.Claim.Stamp
	case announcement.Start:
		require.False(t, ok, "starts what is not held")
		model[a.Claim.Address] = a.Claim.Stamp
	}
}

func randomClaims(random *rand.Rand) []announcement.Claim {
	var claims []announcement.Claim
	for i := range byte(12) {
		if random.IntN(2) == 0 {
			claims = append(claims, announcement.Claim{
				Address: netip.AddrFrom4([4]byte{192, 0, 2, i}),
				Stamp:   announcement.Stamp{Term: 1, Revision: random.Uint64N(3)},
			})
		}
	}
	random.Shuffle(len(claims), func(i, j int) { claims[i], claims[j] = claims[j], claims[i] })
	return claims
}
