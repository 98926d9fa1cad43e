package responder_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"

	"baremetal.cloud/ccm/pkg/announcer/responder"
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

func TestMatchKeysExactly(t *testing.T) {
	for _, count := range []int{0, 1, 2, 3, 7, 100, 640} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(count), 1))
			keys := make([]uint32, count)
			for i := range keys {
				keys[i] = 0xc0000200 + 2*random.Uint32N(2000)
			}
			program := responder.MatchKeys(0, keys, 640)
			require.LessOrEqual(t, len(program), 4096-12, "the kernel takes 4096 instructions")
			raw, err := bpf.Assemble(program)
			require.NoError(t, err)
			require.NotEmpty(t, raw)
			vm, err := bpf.NewVM(program)
			require.NoError(t, err)
			for key := uint32(0xc0000200 - 3); key < 0xc0000200+4010; key++ {
				n, err := vm.Run(binary.BigEndian.AppendUint32(nil, key))
				require.NoError(t, err)
				require.Equal(t, slices.Contains(keys, key), n > 0, "key %x", key)
			}
		})
	}
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
		require.LessOrEqual(t, len(program), 1+6*size)
		for _, key := range keys {
			require.True(t, accepts(t, program, key), "%d at size %d", key, size)
		}
		require.Equal(t, size == 1, accepts(t, program, 500_000))
	}
}
