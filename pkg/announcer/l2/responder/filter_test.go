package responder_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"

	"baremetal.cloud/ccm/pkg/announcer/l2/arp"
	"baremetal.cloud/ccm/pkg/announcer/l2/ndp"
	"baremetal.cloud/ccm/pkg/announcer/l2/responder"
)

// accepts runs program, as the kernel would, on a frame that is key alone.
func accepts(t *testing.T, program []bpf.Instruction, key uint32) bool {
	t.Helper()
	vm, err := bpf.NewVM(program)
	require.NoError(t, err)
	n, err := vm.Run(binary.BigEndian.AppendUint32(nil, key))
	require.NoError(t, err)
	return n > 0
}

// TestMatchKeysExactly compares the program with a search through a list, for random sets
// that are dense, scattered, or close to where the program is split.
func TestMatchKeysExactly(t *testing.T) {
	for _, count := range []int{0, 1, 2, 3, 7, 100, 126, 127, 128, 253, 254, 255, 1000, 2000} {
		for _, span := range []uint32{2, 5, 1 << 20} {
			t.Run(fmt.Sprint(count, " in ", span), func(t *testing.T) {
				random := rand.New(rand.NewPCG(uint64(count), uint64(span)))
				keys := make([]uint32, count)
				for i := range keys {
					keys[i] = 0xc0000200 + random.Uint32N(span*uint32(count))
				}
				program := responder.MatchKeys(0, keys, 2000)
				vm, err := bpf.NewVM(program)
				require.NoError(t, err)
				for _, key := range around(keys, random) {
					n, err := vm.Run(binary.BigEndian.AppendUint32(nil, key))
					require.NoError(t, err)
					require.Equal(t, slices.Contains(keys, key), n > 0, "key %x", key)
				}
			})
		}
	}
}

// around returns keys, those beside them, and others.
func around(keys []uint32, random *rand.Rand) []uint32 {
	out := []uint32{0, 1, 1<<32 - 1}
	for _, key := range keys {
		out = append(out, key-1, key, key+1, random.Uint32())
	}
	return out
}

// TestFilterFitsTheKernel: two thousand addresses of which no two follow each other need
// no more than the kernel takes, with what goes before the search.
func TestFilterFitsTheKernel(t *testing.T) {
	const maximum, prelude = 4096, 6
	var port4, port6 responder.Port
	for i := range 3000 {
		port4.Addresses = port4.Addresses.With(responder.Address(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})))
		port6.Addresses = port6.Addresses.With(responder.Address(netip.AddrFrom16([16]byte{0: 0x20, 12: 1, 13: byte(i >> 8), 14: byte(i)})))
	}
	require.LessOrEqual(t, len(responder.Filter(arp.Protocol{}, port4.Addresses, 2000)), maximum-prelude)
	require.LessOrEqual(t, len(responder.Filter(ndp.Protocol{}, port6.Addresses, 2000)), maximum-prelude)
}

func TestMatchKeysAtTheEnds(t *testing.T) {
	program := responder.MatchKeys(0, []uint32{0, 1<<32 - 1}, 10)
	for key, want := range map[uint32]bool{0: true, 1: false, 1<<32 - 2: false, 1<<32 - 1: true} {
		require.Equal(t, want, accepts(t, program, key), "%x", key)
	}
}

// TestMatchKeysJoined: with too many keys the program grows no further and still accepts
// all of them, and the widest gap stays open.
func TestMatchKeysJoined(t *testing.T) {
	var keys []uint32
	for i := range uint32(1000) {
		keys = append(keys, 2*i)
	}
	keys = append(keys, 1_000_000)
	for _, size := range []int{1, 2, 16} {
		program := responder.MatchKeys(0, keys, size)
		require.LessOrEqual(t, len(program), 9+3*size)
		for _, key := range keys {
			require.True(t, accepts(t, program, key), "%d at size %d", key, size)
		}
		require.Equal(t, size == 1, accepts(t, program, 500_000))
	}
}
