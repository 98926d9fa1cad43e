package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

const (
	// quietAddresses are answered for by the announcers of a ring at rest, compilers is how many
	// threads compete with one in CPU groups, and runawayAddresses make a scrape of /metrics dear.
	quietAddresses   = 10
	compilers        = 20
	runawayAddresses = 3000
	// runawayDelay is how long after it began a fault may still be felt, and runawayTime how long it
	// is watched after that.
	runawayDelay = time.Second
	runawayTime  = 10 * time.Second
	scrapers     = 24
)

// quiet measures the processor time of announcers to which nothing happens.
func quiet(ctx context.Context, _ *lab, duration time.Duration) (r result, err error) {
	ring, err := startRing(ctx, quietAddresses, "", nil)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ring.end()) }()
	s := newSample()
	if s.Figures["machine_busy_before_percent"], err = machineCalm(ctx); err != nil {
		return r, err
	}
	used, err := ring.during(ctx, func(ctx context.Context) error { return pause(ctx, duration) })
	for _, share := range used {
		s.Figures["cpu_percent"] = max(s.Figures["cpu_percent"], share)
	}
	s.Figures["duration_s"] = duration.Seconds()
	say("%s", s)
	return result{Runs: []sample{s}}, err
}

// during returns the share of a core that each announcer took while f ran, in percent.
func (r *ring) during(ctx context.Context, f func(context.Context) error) ([]float64, error) {
	began := time.Now()
	read := func() (all []float64, err error) {
		for _, n := range r.nodes {
			seconds, err := n.seconds()
			if err != nil {
				return nil, err
			}
			all = append(all, seconds)
		}
		return all, nil
	}
	before, err := read()
	if err == nil {
		err = f(ctx)
	}
	if err != nil {
		return nil, err
	}
	after, err := read()
	for i := range after {
		after[i] = 100 * (after[i] - before[i]) / time.Since(began).Seconds()
	}
	return after, err
}

// grouped counts what must not happen to announcers in CPU groups beside Pods that compile.
func grouped(ctx context.Context, _ *lab, duration time.Duration) (r result, err error) {
	groups, err := newCPUGroups()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, groups.remove()) }()
	ring, err := startRing(ctx, crowd, "", groups.announcer)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ring.end()) }()
	before, err := ring.mishaps(ctx)
	if err != nil {
		return r, err
	}
	s := newSample()
	err = besideBusy(ctx, compilers, groups.others, func(ctx context.Context, _ func() (float64, error)) error {
		used, err := ring.during(ctx, func(ctx context.Context) error { return pause(ctx, duration) })
		for _, share := range used {
			s.Figures["cpu_percent"] = max(s.Figures["cpu_percent"], share)
		}
		return err
	})
	if err != nil {
		return r, err
	}
	after, err := ring.mishaps(ctx)
	for name := range mishaps {
		s.Figures[name] = after[name] - before[name]
	}
	s.Figures["minutes"] = duration.Minutes()
	say("%s", s)
	return result{Runs: []sample{s}}, err
}

// besideBusy lets f run beside so many threads that use a processor, in a CPU group. What f is given
// returns the processor time of all of them.
func besideBusy(ctx context.Context, threads int, in *cpuGroup, f func(context.Context, func() (float64, error)) error) error {
	group, ctx := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(ctx)
	defer stop()
	var all []*exec.Cmd
	for range threads {
		thread := exec.CommandContext(running, "sh", "-c", "while :; do :; done")
		in.enter(thread)
		if err := thread.Start(); err != nil {
			return errors.Join(err, running.Err())
		}
		all = append(all, thread)
		group.Go(func() error {
			if err := thread.Wait(); running.Err() == nil {
				return fmt.Errorf("a busy thread ended: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error {
		defer stop()
		return f(ctx, func() (sum float64, err error) {
			for _, thread := range all {
				seconds, err := processorSeconds(fmt.Sprintf("/proc/%d", thread.Process.Pid))
				if err != nil {
					return 0, err
				}
				sum += seconds
			}
			return sum, nil
		})
	})
	return group.Wait()
}

// wild is a way to have an announcer run wild. It goes on until ctx ends or the ring does.
type wild struct {
	name  string
	begin func(ctx context.Context, r *ring) error
}

// wilds are all of them, those that only the end of the process ends last.
var wilds = []wild{
	{"scrape", func(ctx context.Context, r *ring) error { return r.scrape(ctx) }},
	{"arp", func(ctx context.Context, r *ring) error { return r.flood(ctx, requests(ringAddress(0))) }},
	{"ndp", func(ctx context.Context, r *ring) error { return r.flood(ctx, requests(ringAddress(ringIPv6))) }},
	{"arp_claims", func(ctx context.Context, r *ring) error { return r.flood(ctx, claims(ringAddress(0))) }},
	{"ndp_claims", func(ctx context.Context, r *ring) error { return r.flood(ctx, claims(ringAddress(ringIPv6))) }},
	{"udp", func(ctx context.Context, r *ring) error { return r.flood(ctx, datagrams(r.nodes[0])) }},
	{"allocate", func(_ context.Context, r *ring) error { return r.nodes[0].process.Signal(syscall.SIGUSR2) }},
	{"loop", func(_ context.Context, r *ring) error { return r.nodes[0].process.Signal(syscall.SIGUSR1) }},
	{"own_loop", func(_ context.Context, r *ring) error { return r.nodes[0].process.Signal(syscall.SIGHUP) }},
}

// runaway measures what two busy threads keep of the processors beside an announcer that runs
// wild: as plain processes, and in CPU groups.
func runaway(ctx context.Context, _ *lab, _ int) (r result, err error) {
	s := newSample()
	for _, w := range wilds {
		if err := w.measure(ctx, "plain_", nil, nil, s); err != nil {
			return r, fmt.Errorf("%s: %w", w.name, err)
		}
		groups, err := newCPUGroups()
		if err == nil {
			err = w.measure(ctx, "groups_", groups.announcer, groups.others, s)
		}
		if err = errors.Join(err, groups.remove()); err != nil {
			return r, fmt.Errorf("%s in CPU groups: %w", w.name, err)
		}
	}
	say("%s", s)
	return result{Runs: []sample{s}}, nil
}

// measure has a new ring's first announcer run wild.
func (w wild) measure(ctx context.Context, prefix string, ours, others *cpuGroup, s sample) (err error) {
	ring, err := startRing(ctx, runawayAddresses, "runaway", ours)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ring.end()) }()
	return besideBusy(ctx, 2, others, func(ctx context.Context, busy func() (float64, error)) error {
		running, stop := context.WithCancel(ctx)
		var group sync.WaitGroup
		var failed error
		defer group.Wait()
		defer stop()
		group.Go(func() { failed = w.begin(running, ring) })
		if err := pause(ctx, runawayDelay); err != nil {
			return err
		}
		before, err := busy()
		if err != nil {
			return err
		}
		used, err := ring.during(ctx, func(ctx context.Context) error { return pause(ctx, runawayTime) })
		if err != nil {
			return err
		}
		after, err := busy()
		if err != nil {
			return err
		}
		kept := 100 * (after - before) / runawayTime.Seconds()
		// What else the machine did is neither's.
		s.Figures[prefix+w.name+"_kept_percent"] = 100 * kept / (kept + used[0])
		s.Figures[prefix+w.name+"_cpu_percent"] = used[0]
		say("%s%s: two busy threads had %.1f %%, the announcer %.1f %% of a core", prefix, w.name, kept, used[0])
		return failed
	})
}

// scrape asks for /metrics without pause, as a user who may do nothing.
func (r *ring) scrape(ctx context.Context) error {
	var group errgroup.Group
	transport := &http.Transport{DialContext: netns.Dialer(r.nodes[0].space), MaxConnsPerHost: scrapers, MaxIdleConnsPerHost: scrapers}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	for range scrapers {
		group.Go(func() error {
			for ctx.Err() == nil {
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:10271/metrics", nil)
				if err != nil {
					return err
				}
				answer, err := client.Do(request)
				if err != nil {
					continue // It may refuse.
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
			return nil
		})
	}
	return group.Wait()
}
