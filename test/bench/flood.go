package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

const (
	// floodGoal is how many requests in a second must have reached every node for a run to
	// count, floodRate how many are sent.
	floodGoal     = 50_000
	floodRate     = 51_000
	floodDuration = 20 * time.Second
	// floodSenders send at the same time: one alone, whose frames are copied to every
	// port of the switch while it waits, is too slow.
	floodSenders = 2
	// floodBatch requests go out together, then their sender waits for its time to come.
	floodBatch = 50
	// floodTargets is how many different addresses are asked for.
	floodTargets = 4096
)

// flood measures the processor time of announcers with 1000 addresses while somebody asks
// the segment for addresses that nobody has.
func flood(ctx context.Context, bed *lab, runs int) (result, error) {
	names := series("flood", crowd)
	if _, err := bed.createAll(ctx, names, nil); err != nil {
		return result{}, err
	}
	seen, err := bed.watch.addressed(ctx, names)
	if err != nil {
		return result{}, err
	}
	if err := bed.quiet(ctx); err != nil {
		return result{}, err
	}
	used := map[netip.Addr]bool{}
	for _, s := range seen {
		used[s.address] = true
	}
	frames, err := bed.floodFrames(used)
	if err != nil {
		return result{}, err
	}
	r, err := repeat(ctx, runs, func(ctx context.Context, _ int) (sample, error) { return bed.flooded(ctx, frames) })
	return r, errors.Join(err, bed.deleteAll(ctx, names))
}

// flooded measures without and then with the flood.
func (l *lab) flooded(ctx context.Context, frames [][]byte) (sample, error) {
	s := newSample()
	idle, err := l.announcersDuring(ctx, func(ctx context.Context) error { return pause(ctx, floodDuration) })
	if err != nil {
		return s, err
	}
	var sent float64
	busy, err := l.announcersDuring(ctx, func(ctx context.Context) (err error) {
		sent, err = l.send(ctx, frames)
		return err
	})
	if err != nil {
		return s, err
	}
	s.Figures["idle_cpu_percent"], s.Figures["flood_cpu_percent"] = slices.Max(idle.cpu), slices.Max(busy.cpu)
	s.Figures["sent_per_second"] = sent / floodDuration.Seconds()
	s.Figures["least_received_per_second"] = slices.Min(busy.received)
	s.Raw["flood_cpu_percent"], s.Raw["received_per_second"] = busy.cpu, busy.received
	if least := slices.Min(busy.received); least < floodGoal {
		return s, fmt.Errorf("only %.0f frames a second reached a node", least)
	}
	return s, nil
}
