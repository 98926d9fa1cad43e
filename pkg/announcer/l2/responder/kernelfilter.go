package responder

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"baremetal.cloud/ccm/pkg/announcer/plan"
)

const (
	// maxRuns is the largest size of a filter: a little over two instructions for each run
	// of addresses, of the 4096 that the kernel takes.
	maxRuns = 2000
	// looseRuns is the size of a filter that lets through more than it has to.
	looseRuns = 64
	// fewAddresses is how many cost no more to look through than a loose filter does.
	fewAddresses = 256
	// tolerated is how many frames a loose filter lets through in vain before it is worth the
	// work of making an exact one.
	tolerated = 200
)

// filter keeps the filter of a socket in the kernel letting through what is asked for a set
// of addresses. To make an exact one costs as much as there are addresses. So a change
// widens it, and it is made exact again only where what it lets through without need has
// cost about as much.
//
// The owner of the socket changes it, and its reader makes it exact.
type filter struct {
	protocol Protocol
	index    int
	// apply hands a program to the kernel.
	apply func([]bpf.RawInstruction) error

	mu        sync.Mutex
	addresses Addresses
	// covered is what it lets through, and loose the same in few runs.
	covered, loose []run
	// inexact reports whether a narrower one could be made, and wasted how many frames it let
	// through in vain since it could.
	inexact bool
	wasted  int
}

// setAddresses makes it exact for addresses, as far as the kernel has memory.
func (f *filter) setAddresses(addresses Addresses) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addresses = addresses
	return f.tightenLocked()
}

// changeAddresses follows a change of the addresses.
func (f *filter) changeAddresses(before, after Addresses) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addresses = after
	changed := false
	var missing []uint32
	for address, now := range plan.Delta(before, after) {
		changed = true
		if key := f.protocol.Key(address); now != nil && !coversKey(f.covered, key) {
			missing = append(missing, key)
		}
	}
	switch {
	case !changed:
		return nil
	case after.Len() <= fewAddresses || len(missing) > looseRuns:
		return f.tightenLocked()
	}
	f.inexact = true
	if len(missing) == 0 {
		return nil
	}
	loose := f.loose
	for _, key := range missing {
		if !coversKey(loose, key) {
			loose = withKey(loose, key, looseRuns)
		}
	}
	return f.attachLocked(loose)
}

// noteWasted takes that a frame came through that is for no address.
func (f *filter) noteWasted() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.inexact {
		return
	}
	if f.wasted++; f.wasted < tolerated {
		return
	}
	if f.tightenLocked() != nil {
		f.wasted = 0 // The one that is there goes on.
	}
}

// tightenLocked makes the filter exact.
func (f *filter) tightenLocked() error {
	if err := f.attachLocked(runsOf(keysOf(f.protocol, f.addresses))); err != nil {
		return err
	}
	f.inexact, f.wasted = false, 0
	return nil
}

// attachLocked has the kernel let through wanted, in as many runs as it has memory for
// (net.core.optmem_max bounds it per socket).
func (f *filter) attachLocked(wanted []run) error {
	for size := min(maxRuns, max(1, len(wanted))); ; size /= 2 {
		covered := joinRuns(wanted, size)
		program, err := bpf.Assemble(append(Prelude(f.index), matchProgram(f.protocol, covered)...))
		if err != nil {
			return fmt.Errorf("assemble filter: %w", err)
		}
		err = f.apply(program)
		if err == nil {
			f.covered, f.loose = covered, joinRuns(covered, looseRuns)
		}
		if err == nil || size == 1 || !errors.Is(err, unix.ENOMEM) {
			return err
		}
	}
}

// Filter returns a program that lets through the questions for addresses in at most size
// runs of keys; a smaller size lets through more.
func Filter(protocol Protocol, addresses Addresses, size int) []bpf.Instruction {
	return matchProgram(protocol, joinRuns(runsOf(keysOf(protocol, addresses)), size))
}

func matchProgram(protocol Protocol, covered []run) []bpf.Instruction {
	return append(protocol.Question(), matchRuns(protocol.KeyOffset(), covered)...)
}

func keysOf(protocol Protocol, addresses Addresses) []uint32 {
	keys := make([]uint32, 0, addresses.Len())
	for a := range addresses.All() {
		keys = append(keys, protocol.Key(a.At()))
	}
	return keys
}
