package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// thousand creates 1000 Services as fast as the API server takes them and asks each, side
// by side, through its address and through its NodePort on one of the nodes. It measures
// from the last creation to the last first answer of either kind.
func thousand(ctx context.Context, bed *lab, runs int) (r result, err error) {
	restore, err := roomForNeighbours()
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	return repeat(ctx, runs, func(ctx context.Context, i int) (sample, error) {
		s := newSample()
		names := series(fmt.Sprintf("thousand-%d", i), crowd)
		err := bed.asking(ctx, func(ctx context.Context, a *asker) error {
			return bed.askThousand(ctx, a, names, s)
		})
		return s, errors.Join(err, bed.deleteAll(ctx, names))
	})
}

func (l *lab) askThousand(ctx context.Context, a *asker, names []string, s sample) error {
	t := &targets{lab: l, asker: a, address: map[string]*target{}, nodePort: map[string]*target{}}
	l.watch.observe(t.see)
	defer l.watch.observe(nil)
	created, err := l.createAll(ctx, names, nil)
	if err != nil {
		return err
	}
	if _, err := l.watch.addressed(ctx, names); err != nil {
		return err
	}
	var last [2]time.Time
	for i, of := range []map[string]*target{t.address, t.nodePort} {
		for _, name := range names {
			at, err := of[name].wait(ctx)
			if err != nil {
				return fmt.Errorf("Service %s: %w", name, err)
			}
			if at.After(last[i]) {
				last[i] = at
			}
		}
	}
	beside(s, "address_tail_ms", ms(last[0].Sub(created)), ms(last[1].Sub(created)))
	return nil
}

// targets makes targets of Services as soon as they are seen.
type targets struct {
	lab   *lab
	asker *asker

	mu sync.Mutex
	// address and nodePort are by the Service's name and guarded by mu while the watcher
	// calls see.
	address, nodePort map[string]*target
}

// see is what the watcher calls.
func (t *targets) see(name string, s sighting) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nodePort[name] == nil && s.nodePort != 0 {
		nodes := t.lab.cluster.Layout().Nodes
		node := nodes[len(t.nodePort)%len(nodes)]
		t.nodePort[name] = t.asker.add(netip.AddrPortFrom(node.LAN.V4, s.nodePort))
	}
	if t.address[name] == nil && s.address.IsValid() {
		t.address[name] = t.asker.add(netip.AddrPortFrom(s.address, servicePort))
	}
}

// roomForNeighbours makes the kernel keep as many neighbours as there are addresses to
// ask. The limits are the whole machine's: they go back to what they were.
func roomForNeighbours() (restore func() error, err error) {
	const dir, enough = "/proc/sys/net/ipv4/neigh/default", "8192\n"
	var undo []func() error
	restore = func() error {
		var failures []error
		for _, f := range undo {
			failures = append(failures, f())
		}
		return errors.Join(failures...)
	}
	// The largest first: none may be below a smaller one.
	for _, name := range []string{"gc_thresh3", "gc_thresh2", "gc_thresh1"} {
		path := filepath.Join(dir, name)
		was, err := os.ReadFile(path)
		if err != nil {
			return nil, errors.Join(err, restore())
		}
		if err := os.WriteFile(path, []byte(enough), 0o644); err != nil {
			return nil, errors.Join(err, restore())
		}
		undo = append(undo, func() error { return os.WriteFile(path, []byte(strings.TrimSpace(string(was))+"\n"), 0o644) })
	}
	return restore, nil
}
