package responder

import (
	"cmp"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// accept is the snap length that a filter returns for a frame to keep: all of it.
const accept = 1 << 16

// Prelude drops what does not belong to the interface itself before anything else is
// looked at. A socket on an interface is also handed the frames of its VLANs, with the
// tag removed, and of other machines while something keeps the interface promiscuous. Every
// filter begins with it.
func Prelude(index int) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(index), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		// PACKET_HOST, PACKET_BROADCAST and PACKET_MULTICAST are 0, 1 and 2.
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: unix.PACKET_MULTICAST, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
}

// Require returns instructions that drop the frame unless the size bytes at offset are value.
func Require(offset uint32, size int, value uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: offset, Size: size},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
}

// MatchKeys returns instructions that end the program: they accept the frame if the four
// bytes at offset are among keys and drop it otherwise. The search is binary, so that a
// frame costs about a dozen comparisons among two thousand keys. Runs of keys that follow
// each other count once; if there are more than size runs, those nearest to each other
// are joined, and keys between them are accepted too. There are a little over two
// instructions for each run.
func MatchKeys(offset uint32, keys []uint32, size int) []bpf.Instruction {
	return matchRuns(offset, joinRuns(runsOf(keys), size))
}

func matchRuns(offset uint32, found []run) []bpf.Instruction {
	if len(found) == 0 {
		return []bpf.Instruction{bpf.RetConstant{Val: 0}}
	}
	return append([]bpf.Instruction{
		bpf.LoadAbsolute{Off: offset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: found[0].first, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}, searchRuns(found)...)
}

// run is a range of keys, both ends included.
type run struct{ first, last uint32 }

// coversKey reports whether key is in one of in, which are in order.
func coversKey(in []run, key uint32) bool {
	i := runsBefore(in, key)
	return i > 0 && key <= in[i-1].last
}

// runsBefore returns how many of in begin at key or before.
func runsBefore(in []run, key uint32) int {
	i, _ := slices.BinarySearchFunc(in, key, func(r run, key uint32) int {
		if r.first <= key {
			return -1
		}
		return 1
	})
	return i
}

// withKey returns in with key, which they do not cover yet, in at most size runs.
func withKey(in []run, key uint32, size int) []run {
	return joinRuns(slices.Insert(slices.Clone(in), runsBefore(in, key), run{key, key}), size)
}

// runsOf returns the ranges that keys make up, in order.
func runsOf(keys []uint32) []run {
	sorted := slices.Clone(keys)
	slices.Sort(sorted)
	var out []run
	for _, key := range slices.Compact(sorted) {
		if n := len(out); n > 0 && out[n-1].last+1 == key {
			out[n-1].last = key
			continue
		}
		out = append(out, run{key, key})
	}
	return out
}

// joinRuns closes the smallest gaps between runs until at most size are left.
func joinRuns(in []run, size int) []run {
	excess := len(in) - max(size, 1)
	if excess <= 0 {
		return in
	}
	gaps := make([]int, len(in)-1) // gaps[i] is before in[i+1]
	for i := range gaps {
		gaps[i] = i + 1
	}
	slices.SortStableFunc(gaps, func(a, b int) int {
		return cmp.Compare(in[a].first-in[a-1].last, in[b].first-in[b-1].last)
	})
	closed := make(map[int]bool, excess)
	for _, gap := range gaps[:excess] {
		closed[gap] = true
	}
	var out []run
	for i, r := range in {
		if closed[i] {
			out[len(out)-1].last = r.last
			continue
		}
		out = append(out, r)
	}
	return out
}

// blockRuns is how many runs share one accepting and one dropping instruction: conditional
// jumps reach 255 instructions, and a block of n runs has 2n+1.
const blockRuns = 127

// searchRuns returns a binary search for the accumulator in runs, which are not empty and of
// which it is not below the first.
func searchRuns(in []run) []bpf.Instruction {
	if len(in) <= blockRuns {
		return append(searchBlock(in, 0), bpf.RetConstant{Val: accept}, bpf.RetConstant{Val: 0})
	}
	blocks := (len(in) + blockRuns - 1) / blockRuns
	middle := blocks / 2 * blockRuns
	left, right := searchRuns(in[:middle]), searchRuns(in[middle:])
	out := []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: in[middle].first, SkipFalse: 1},
		bpf.Jump{Skip: uint32(len(left))},
	}
	return append(append(out, left...), right...)
}

// searchBlock is a search without the two instructions that it ends at: the accepting one comes
// after instructions behind the block, the dropping one follows that. It has 2n-1
// instructions for n runs.
func searchBlock(in []run, after int) []bpf.Instruction {
	if len(in) == 1 {
		// Not below the first of the run: it was compared on the way here.
		return []bpf.Instruction{bpf.JumpIf{
			Cond: bpf.JumpGreaterThan, Val: in[0].last, SkipTrue: uint8(after + 1), SkipFalse: uint8(after),
		}}
	}
	middle := len(in) / 2
	right := searchBlock(in[middle:], after)
	left := searchBlock(in[:middle], after+len(right))
	out := []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: in[middle].first, SkipTrue: uint8(len(left))}}
	return append(append(out, left...), right...)
}
