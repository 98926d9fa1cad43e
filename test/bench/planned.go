package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
	"baremetal.cloud/ccm/test/e2e/testbed/tcp"
)

const (
	// delayed is how long a request may take during planned work.
	delayed = 200 * time.Millisecond
	// openConnections are kept open during planned work, and used every openInterval.
	openConnections = 100
	openInterval    = 100 * time.Millisecond
)

// planned measures what planned work does to 1000 new connections a second, and to those
// that are open.
func planned(ctx context.Context, bed *lab, runs int) (result, error) {
	names := series("planned", requested)
	if _, err := bed.createAll(ctx, names, local); err != nil {
		return result{}, err
	}
	seen, err := bed.watch.wait(ctx, names, func(s sighting, _ bool) bool { return !s.announced.IsZero() })
	if err != nil {
		return result{}, err
	}
	var targets []netip.AddrPort
	for _, s := range seen {
		targets = append(targets, netip.AddrPortFrom(s.address, servicePort))
	}
	if err := errors.Join(bed.quiet(ctx), pause(ctx, healing)); err != nil {
		return result{}, err
	}
	node := bed.cluster.Nodes()[0]
	r, err := repeat(ctx, runs, func(ctx context.Context, _ int) (sample, error) {
		s := newSample()
		for _, work := range []struct {
			name     string
			commands [][]string
		}{
			{"announcers", [][]string{
				{"-n", system, "rollout", "restart", "daemonset/baremetal-announcer"},
				{"-n", system, "rollout", "status", "daemonset/baremetal-announcer", "--timeout=2m"},
			}},
			{"ccm", [][]string{
				{"-n", system, "rollout", "restart", "deployment/baremetal-ccm"},
				{"-n", system, "rollout", "status", "deployment/baremetal-ccm", "--timeout=2m"},
			}},
			{"exclude", [][]string{{"label", "node", node, corev1.LabelNodeExcludeBalancers + "=true"}, {"label", "node", node, corev1.LabelNodeExcludeBalancers + "-"}}},
		} {
			err := bed.duringWork(ctx, s, work.name, targets, func(ctx context.Context) error { return bed.kubectl(ctx, work.commands) })
			if err != nil {
				return s, fmt.Errorf("%s: %w", work.name, err)
			}
		}
		return s, nil
	})
	return r, errors.Join(err, bed.deleteAll(ctx, names))
}

// kubectl runs commands of the administrator's one after the other, and waits after each.
func (l *lab) kubectl(ctx context.Context, commands [][]string) error {
	for _, args := range commands {
		if _, err := l.cluster.Kubectl(ctx, args...); err != nil {
			return err
		}
		if err := pause(ctx, aftermath); err != nil {
			return err
		}
	}
	return nil
}

// duringWork has work done while connections are made and used, and puts into s how they
// fared. One that had come about when its address moved is not turned away: it was open.
func (l *lab) duringWork(ctx context.Context, s sample, name string, targets []netip.AddrPort, work func(context.Context) error) error {
	working, stop := context.WithCancel(ctx)
	defer stop()
	p := &pulse{targets: targets, interval: crowdedPulseInterval}
	open := &opened{targets: targets}
	ended := make(chan error, 2)
	namespace := l.cluster.Layout().Client.NetNS
	go func() { ended <- p.run(working, namespace) }()
	go func() { ended <- open.run(working, namespace) }()
	err := pause(ctx, calmBefore)
	if err == nil {
		err = work(ctx)
	}
	stop()
	if err = errors.Join(err, <-ended, <-ended); err != nil {
		return err
	}
	refused, late, cut := 0, 0, 0
	var slowest time.Duration
	for _, r := range p.requests {
		switch {
		case r.err != nil && r.opened:
			cut++
		case r.err != nil:
			refused++
			say("%s refused after %s: %v", r.target, r.took, r.err)
		case r.took > delayed:
			late++
		}
		slowest = max(slowest, r.took)
	}
	s.Figures[name+"_requests"] = float64(len(p.requests))
	s.Figures[name+"_refused"] = float64(refused)
	s.Figures[name+"_delayed"] = float64(late)
	s.Figures[name+"_turned_away"] = float64(refused + late)
	s.Figures[name+"_slowest_ms"] = ms(slowest)
	s.Figures[name+"_open_connections"] = openConnections
	s.Figures[name+"_resets"] = float64(open.broken.Load())
	s.Figures[name+"_cut_short"] = float64(cut)
	return nil
}

// opened are connections that stay open and are used steadily; one that breaks is counted
// and made again.
type opened struct {
	targets []netip.AddrPort
	broken  atomic.Int64
}

func (o *opened) run(ctx context.Context, namespace string) error {
	var group sync.WaitGroup
	defer group.Wait()
	for i := range openConnections {
		group.Go(func() {
			for ctx.Err() == nil {
				if o.use(ctx, namespace, o.targets[i%len(o.targets)]) != nil && ctx.Err() == nil {
					o.broken.Add(1)
				}
			}
		})
	}
	return nil
}

// use makes a connection and uses it until it breaks or ctx ends.
func (o *opened) use(ctx context.Context, namespace string, target netip.AddrPort) error {
	var conn *tcp.Conn
	err := netns.Do(namespace, func() (err error) {
		conn, err = tcp.Open(target)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Connect(ctx); err != nil {
		return err
	}
	answer := make([]byte, 1<<12)
	for {
		bounded, cancel := context.WithTimeout(ctx, pulseLimit)
		_, err := conn.WriteContext(bounded, []byte("GET / HTTP/1.1\r\nHost: web\r\n\r\n"))
		n := 0
		if err == nil {
			n, err = conn.ReadContext(bounded, answer)
		}
		cancel()
		if err == nil && n == 0 {
			err = fmt.Errorf("%s closed the connection", target)
		}
		if err != nil {
			return err
		}
		if err := pause(ctx, openInterval); err != nil {
			return nil
		}
	}
}
