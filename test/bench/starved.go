package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// starvingThreads use processors beside announcers, at normal priority.
const starvingThreads = 8

// starved counts the addresses that nodes take over from each other though nothing is wrong but
// that there is more to do than processors can do.
func starved(ctx context.Context, bed *lab, duration time.Duration) (r result, err error) {
	names := series("starved", crowd)
	defer func() { err = errors.Join(err, bed.deleteAll(context.WithoutCancel(ctx), names)) }()
	if _, err := bed.createAll(ctx, names, nil); err != nil {
		return r, err
	}
	if _, err := bed.watch.wait(ctx, names, func(s sighting, _ bool) bool { return !s.announced.IsZero() }); err != nil {
		return r, err
	}
	if err := errors.Join(bed.quiet(ctx), pause(ctx, healing)); err != nil {
		return r, err
	}
	busy, err := machineCalm(ctx)
	if err != nil {
		return r, err
	}
	s := newSample()
	s.Figures["machine_busy_before_percent"] = busy
	err = amid(ctx, starvingThreads, func(ctx context.Context) error { return bed.starve(ctx, s, duration) })
	say("%s", s)
	return result{Runs: []sample{s}}, err
}

// starve lets time go by, and puts into s what changed meanwhile.
func (l *lab) starve(ctx context.Context, s sample, duration time.Duration) error {
	counters := map[string]string{
		"takeovers": `baremetal_announcer_claims_started_total{cause="takeover"}`,
		"overslept": `baremetal_announcer_claims_ended_total{cause="overslept"}`,
	}
	before, err := l.counters(ctx, counters)
	if err != nil {
		return err
	}
	used, err := l.announcersDuring(ctx, func(ctx context.Context) error { return pause(ctx, duration) })
	if err != nil {
		return err
	}
	after, err := l.counters(ctx, counters)
	for name := range counters {
		s.Figures[name] = after[name] - before[name]
	}
	s.Figures["cpu_percent"], s.Figures["minutes"] = slices.Max(used.cpu), duration.Minutes()
	return err
}

// counters adds up metrics of all announcers.
func (l *lab) counters(ctx context.Context, wanted map[string]string) (map[string]float64, error) {
	sums := map[string]float64{}
	for _, node := range l.cluster.Nodes() {
		text, err := l.metrics(ctx, node)
		if err != nil {
			return nil, err
		}
		for name, metric := range wanted {
			value, err := metricIn(text, metric)
			if err != nil {
				return nil, fmt.Errorf("announcer of %s: %w", node, err)
			}
			sums[name] += value
		}
	}
	return sums, nil
}

// metrics returns those of node's announcer.
func (l *lab) metrics(ctx context.Context, node string) (string, error) {
	return l.cluster.In(ctx, node, "curl", "-sS", "-m", "10", "http://127.0.0.1:10271/metrics")
}

// metricIn returns the value of a metric with its labels, as text has them.
func metricIn(text, metric string) (float64, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, metric+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", metric)
}

// amid lets f run beside so many threads that do nothing but use a processor.
func amid(ctx context.Context, threads int, f func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(ctx)
	for range threads {
		thread := exec.CommandContext(running, "sh", "-c", "while :; do :; done")
		group.Go(func() error {
			if err := thread.Run(); running.Err() == nil {
				return fmt.Errorf("a busy thread ended: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error {
		defer stop()
		return f(ctx)
	})
	return group.Wait()
}
