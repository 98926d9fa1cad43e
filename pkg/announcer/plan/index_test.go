package plan_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

// TestIndexAgainstMap compares an Index with a map, through random changes.
func TestIndexAgainstMap(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		var index plan.Index[plan.Claim]
		naive := map[netip.Addr]plan.Claim{}
		for step := range 150 {
			before, was := index, maps.Clone(naive)
			for range 1 + random.IntN(4) {
				c := plan.Claim{Address: randomAddress(random), Version: plan.Version{Revision: random.Uint64N(3)}}
				if random.IntN(5) < 2 {
					index, naive = index.Without(c.Address), without(naive, c.Address)
				} else {
					index = index.With(c)
					naive[c.Address] = c
				}
			}
			require.Equal(t, sorted(was), slices.Collect(before.All()), "seed %d step %d: changed in place", seed, step)
			checkIndex(t, random, index, naive)
			checkChanges(t, before, index, was, naive)
			if random.IntN(20) == 0 {
				rebuilt := plan.NewIndex(sorted(naive)...)
				require.Equal(t, index, rebuilt, "the shape depends on what is in it alone")
				checkChanges(t, before, rebuilt, was, naive)
				index = rebuilt
			}
		}
	}
}

func randomAddress(random *rand.Rand) netip.Addr {
	if random.IntN(4) == 0 {
		return netip.AddrFrom16([16]byte{0x20, 1, 15: byte(random.IntN(40))})
	}
	return netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(120))})
}

func without(m map[netip.Addr]plan.Claim, address netip.Addr) map[netip.Addr]plan.Claim {
	delete(m, address)
	return m
}

func sorted(m map[netip.Addr]plan.Claim) []plan.Claim {
	return slices.SortedFunc(maps.Values(m), func(a, b plan.Claim) int { return a.Address.Compare(b.Address) })
}

// checkIndex asks an Index everything that there is to ask.
func checkIndex(t *testing.T, random *rand.Rand, index plan.Index[plan.Claim], naive map[netip.Addr]plan.Claim) {
	t.Helper()
	want := sorted(naive)
	require.Equal(t, want, slices.Collect(index.All()))
	require.Equal(t, len(want), index.Len())
	address := randomAddress(random)
	got, ok := index.Find(address)
	held, want1 := naive[address]
	require.Equal(t, want1, ok)
	require.Equal(t, held, got)
	from := slices.Clone(want)
	from = slices.DeleteFunc(from, func(c plan.Claim) bool { return c.Address.Less(address) })
	require.True(t, slices.Equal(from, slices.Collect(index.From(address))), "from %s on", address)
	for range index.From(address) {
		break
	}
	if len(want) > 0 {
		i := random.IntN(len(want))
		require.Equal(t, want[i], index.Nth(i))
	}
	require.Equal(t, index, plan.NewIndex(slices.Collect(index.All())...))
}

func checkChanges(t *testing.T, before, after plan.Index[plan.Claim], was, is map[netip.Addr]plan.Claim) {
	t.Helper()
	got := maps.Clone(was)
	last := netip.Addr{}
	for address, now := range plan.Delta(before, after) {
		require.True(t, last.Less(address), "in order")
		last = address
		if now == nil {
			require.Contains(t, got, address)
			delete(got, address)
			continue
		}
		require.NotEqual(t, got[address], *now, "a change")
		got[address] = *now
	}
	require.Equal(t, is, got)
	require.Equal(t, maps.Equal(was, is), before.Equal(after))
}

func TestNewIndex(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	require.Equal(t, plan.Index[plan.Claim]{}, plan.NewIndex[plan.Claim]())
	unsorted := []plan.Claim{{Address: b}, {Address: a}, {Address: b, Version: plan.Version{Term: 2}}}
	index := plan.NewIndex(unsorted...)
	require.Equal(t, []plan.Claim{{Address: a}, {Address: b, Version: plan.Version{Term: 2}}}, slices.Collect(index.All()))
	require.Equal(t, b, unsorted[0].Address, "the argument stays as it is")
}

// BenchmarkIndex shows that one change among many costs what it costs among few.
func BenchmarkIndex(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var items []plan.Claim
			for i := range n {
				items = append(items, plan.Claim{Address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})})
			}
			index := plan.NewIndex(items...)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				next := index.With(plan.Claim{Address: items[i%n].Address, Version: plan.Version{Revision: uint64(i + 1)}})
				for range plan.Delta(index, next) {
				}
				index = next
			}
		})
	}
}
