package timerqueue_test

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/internal/timerqueue"
)

// TestAgainstMap compares a Queue with a map, through random changes.
func TestAgainstMap(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 0))
		a, naive := timerqueue.New(cmp.Compare[int]), map[netip.Addr]int{}
		for range 500 {
			address := netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(50))})
			switch random.IntN(4) {
			case 0, 1:
				due := random.IntN(100)
				a.Set(address, due)
				naive[address] = due
			case 2:
				a.Delete(address)
				delete(naive, address)
			default:
				now := random.IntN(20)
				taken := a.Take(now)
				require.True(t, slices.IsSortedFunc(taken, func(x, y netip.Addr) int { return naive[x] - naive[y] }), "seed %d", seed)
				var want []netip.Addr
				for address, due := range naive {
					if due <= now {
						want = append(want, address)
						delete(naive, address)
					}
				}
				require.ElementsMatch(t, want, taken, "seed %d", seed)
			}
			next, ok := a.Next()
			require.Equal(t, len(naive) > 0, ok, "seed %d", seed)
			if ok {
				require.Equal(t, slices.Min(slices.Collect(maps.Values(naive))), next, "seed %d", seed)
			}
		}
	}
}
