package addressqueue_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/internal/addressqueue"
)

// TestQueue plays random operations against a list that is searched through.
func TestQueue(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		var b addressqueue.Queue
		var urgent, naive []netip.Addr
		add := func(address netip.Addr) {
			if !slices.Contains(naive, address) {
				naive = append(naive, address)
			}
		}
		for range 200 {
			address := netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(20))})
			switch random.IntN(5) {
			case 0:
				most := random.IntN(6)
				first := urgent[:min(most, len(urgent))]
				then := naive[:min(most-len(first), len(naive))]
				require.True(t, slices.Equal(slices.Concat(first, then), b.Take(most)), "seed %d", seed)
				urgent, naive = urgent[len(first):], naive[len(then):]
			case 1:
				next := address.Next()
				addressqueue.AddKeys(&b, map[netip.Addr]string{next: "", address: ""})
				add(address)
				add(next)
			case 2:
				b.AddUrgent(address)
				if !slices.Contains(urgent, address) {
					urgent = append(urgent, address)
				}
			default:
				b.Add(address)
				add(address)
			}
			require.Equal(t, len(urgent)+len(naive), b.Len(), "seed %d", seed)
			require.Equal(t, slices.Contains(urgent, address) || slices.Contains(naive, address), b.Has(address), "seed %d", seed)
		}
	}
}
