package responder

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// plain is a protocol whose frames are the address that they ask for.
type plain struct{ Protocol }

func (plain) Question() []bpf.Instruction { return nil }
func (plain) KeyOffset() uint32           { return 0 }
func (plain) Key(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// kernel takes filters of up to limit instructions.
type kernel struct {
	limit, attached int
	program         []bpf.RawInstruction
}

func (k *kernel) attach(program []bpf.RawInstruction) error {
	if len(program) > k.limit {
		return unix.ENOMEM
	}
	k.program = program
	k.attached++
	return nil
}

// accepts runs what comes after the prelude, which asks for what only the kernel knows.
func (k *kernel) accepts(t *testing.T, a netip.Addr) bool {
	t.Helper()
	instructions, known := bpf.Disassemble(k.program[len(Prelude(1)):])
	require.True(t, known)
	vm, err := bpf.NewVM(instructions)
	require.NoError(t, err)
	n, err := vm.Run(a.AsSlice())
	require.NoError(t, err)
	return n > 0
}

func someAddress(random *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 1, byte(random.IntN(20)), byte(2 * random.IntN(100))})
}

// TestFilterFollows: whatever comes and goes, what is asked for an address gets through; a
// change of one among many costs no more than a loose filter; and once that has let through
// enough for nobody, nothing gets through but what it has to.
func TestFilterFollows(t *testing.T) {
	for seed, limit := range []int{4096, 4096, 4096, 600} {
		random := rand.New(rand.NewPCG(uint64(seed), 0))
		k := &kernel{limit: limit}
		f := &filter{protocol: plain{}, index: 1, apply: k.attach}
		var addresses Addresses
		require.NoError(t, f.setAddresses(addresses))
		for step := range 200 {
			before, few := addresses, random.IntN(10) > 0
			changes := 300
			if few {
				changes = 1 + random.IntN(5)
			}
			for range changes {
				a := someAddress(random)
				if random.IntN(3) == 0 {
					addresses = addresses.Without(a)
				} else {
					addresses = addresses.With(Address(a))
				}
			}
			attached := k.attached
			require.NoError(t, f.changeAddresses(before, addresses))
			if few && addresses.Len() > fewAddresses && k.attached > attached {
				require.LessOrEqual(t, len(k.program), len(Prelude(1))+4*looseRuns)
			}
			for range 20 {
				if a := someAddress(random); addresses.Has(a) {
					require.True(t, k.accepts(t, a), "seed %d, step %d: %s", seed, step, a)
				}
			}
			if random.IntN(10) > 0 || limit < 4096 {
				continue
			}
			for range tolerated {
				f.noteWasted()
			}
			for range 20 {
				a := someAddress(random)
				require.Equal(t, addresses.Has(a), k.accepts(t, a), "seed %d, step %d: %s", seed, step, a)
			}
			attached = k.attached
			for range 2 * tolerated {
				f.noteWasted()
			}
			require.Equal(t, attached, k.attached, "it cannot be narrower")
		}
	}
}

// BenchmarkFilterChange shows what one address more costs beside many, of which no two
// follow each other.
func BenchmarkFilterChange(b *testing.B) {
	for name, n := range map[string]int{"10": 10, "3000": 3000, "10000": 10000} {
		b.Run(name, func(b *testing.B) {
			k := &kernel{limit: 4096}
			f := &filter{protocol: plain{}, index: 1, apply: k.attach}
			var list []netip.Addr
			for i := range n {
				list = append(list, netip.AddrFrom4([4]byte{10, byte(i >> 14), byte(i >> 7), byte(2 * i)}))
			}
			addresses := NewAddresses(list...)
			require.NoError(b, f.setAddresses(addresses))
			more := addresses.With(Address(netip.MustParseAddr("10.200.0.1")))
			b.ReportAllocs()
			for b.Loop() {
				if f.changeAddresses(addresses, more) != nil || f.changeAddresses(more, addresses) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}
