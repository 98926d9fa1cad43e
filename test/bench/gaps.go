package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

const (
	// faults is how often each fault is made; the worst counts.
	faults = 20
	// requested is how many of a thousand addresses are requested.
	requested = 20
	// pulseInterval is the time between two requests, to whatever address: 200 a second
	// to a single one, 50 a second to each of twenty.
	pulseInterval, crowdedPulseInterval = 5 * time.Millisecond, time.Millisecond
	// calmBefore is how long requests go on before a fault, and aftermath how long after
	// it: twice as long as one may last.
	calmBefore, aftermath = 300 * time.Millisecond, 2 * pulseLimit
	// healing is the time for nodes to hear each other again.
	healing = 2 * time.Second
	// gapPatience ends a trial in which the addresses do not come back.
	gapPatience = time.Minute
)

// errTooEarly says that an address did not answer before the fault, as it should have.
var errTooEarly = errors.New("it did not answer before the fault")

// gaps measures how long requests to one address fail when the node that answers for it
// is cut off or its announcer is killed.
func gaps(ctx context.Context, bed *lab, _ int) (result, error) {
	return bed.onceOver(ctx, func(ctx context.Context, g *gapLab) error {
		return inTurn(ctx,
			func(ctx context.Context) error { return g.cuts(ctx, "one", pulseInterval) },
			g.leaderCuts,
			func(ctx context.Context) error { return g.kills(ctx, "kill_flushed", g.flush) },
			func(ctx context.Context) error { return g.kills(ctx, "kill_kept", nil) },
			func(ctx context.Context) error { return g.tuned(ctx, "one_tuned", pulseInterval) },
			func(ctx context.Context) error { return g.dead(ctx, "one_dead", pulseInterval) },
		)
	})
}

// crowdGaps measures the same of the node that answers for a thousand addresses.
func crowdGaps(ctx context.Context, bed *lab, _ int) (result, error) {
	return bed.onceOver(ctx, func(ctx context.Context, g *gapLab) error {
		return inTurn(ctx,
			func(ctx context.Context) error { return g.more(ctx, crowd) },
			func(ctx context.Context) error { return g.cuts(ctx, "thousand", crowdedPulseInterval) },
			func(ctx context.Context) error { return g.tuned(ctx, "thousand_tuned", crowdedPulseInterval) },
			func(ctx context.Context) error { return g.dead(ctx, "thousand_dead", crowdedPulseInterval) },
		)
	})
}

// inTurn does one after the other, until one fails.
func inTurn(ctx context.Context, all ...func(context.Context) error) error {
	for _, f := range all {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return nil
}

// gapsOfTwo measures the same on a cluster of two nodes, of its own.
func gapsOfTwo(ctx context.Context, _ *lab, _ int) (r result, err error) {
	bed, err := settings{nodes: 2}.lab(ctx)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, bed.down()) }()
	return bed.onceOver(ctx, func(ctx context.Context, g *gapLab) error {
		return g.cuts(ctx, "one", pulseInterval)
	})
}

// gapLab is a lab with addresses to miss.
type gapLab struct {
	*lab
	wire      *wire
	addresses []netip.Addr
	// port is that of the addresses.
	port   uint16
	sample sample
	// leaderless says that there is no CCM and no API server.
	leaderless bool
}

// onceOver makes a Service, has f measure and removes what it made. The one run it
// returns has many faults in it, whose worst counts.
func (l *lab) onceOver(ctx context.Context, f func(context.Context, *gapLab) error) (r result, err error) {
	restore, err := roomForNeighbours()
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	return repeat(ctx, 1, func(ctx context.Context, _ int) (sample, error) {
		g := &gapLab{lab: l, sample: newSample(), port: servicePort}
		err := l.listen(ctx, func(ctx context.Context, w *wire) error {
			g.wire = w
			if err := g.more(ctx, 1); err != nil {
				return err
			}
			return f(ctx, g)
		})
		return g.sample, errors.Join(err, l.deleteAll(ctx, series("gap", len(g.addresses))))
	})
}

// more makes Services until there are n. Every node answers by its own Pod: the request's
// way must not lead over a node that is gone, and nobody can say so while the control
// plane is dead.
func (g *gapLab) more(ctx context.Context, n int) error {
	names := series("gap", n)
	if _, err := g.createAll(ctx, names[len(g.addresses):], local); err != nil {
		return err
	}
	seen, err := g.watch.wait(ctx, names, func(s sighting, _ bool) bool { return !s.announced.IsZero() })
	if err != nil {
		return err
	}
	g.addresses = nil
	for _, s := range seen {
		g.addresses = append(g.addresses, s.address)
	}
	if err := g.quiet(ctx); err != nil {
		return err
	}
	return pause(ctx, healing) // the kube-proxies write their rules
}

func local(svc *corev1.Service) {
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
}

// cuts cuts the cable of the node that answers, silently, and heals it, again and again.
func (g *gapLab) cuts(ctx context.Context, name string, interval time.Duration) error {
	return g.repeat(ctx, name, func(ctx context.Context, t *trial) error {
		node, err := g.gather(ctx, "")
		if err != nil {
			return err
		}
		return g.cut(ctx, t, node, interval)
	})
}

// leaderCuts cuts off the node that answers and has the leader.
func (g *gapLab) leaderCuts(ctx context.Context) error {
	return g.repeat(ctx, "one_leader", func(ctx context.Context, t *trial) error {
		leader, err := g.leader(ctx)
		if err != nil {
			return err
		}
		node, err := g.gather(ctx, leader)
		if err != nil {
			return err
		}
		return g.cut(ctx, t, node, pulseInterval)
	})
}

// tuned cuts while nodes look out for each other every 50 ms.
func (g *gapLab) tuned(ctx context.Context, name string, interval time.Duration) error {
	edit := func(f func(config map[string]any)) error {
		err := g.configure(ctx, func(config map[string]any) error { f(config); return nil })
		if err != nil {
			return err
		}
		return pause(ctx, 5*time.Second) // the ConfigMap's way to the leader, and the plan's to the nodes
	}
	fast := map[string]any{"transmitInterval": "50ms", "detectMultiplier": 3}
	if err := edit(func(config map[string]any) { config["failover"] = fast }); err != nil {
		return err
	}
	err := g.cuts(ctx, name, interval)
	return errors.Join(err, edit(func(config map[string]any) { delete(config, "failover") }))
}

// dead cuts while there is no CCM and no API server.
func (g *gapLab) dead(ctx context.Context, name string, interval time.Duration) error {
	g.stop() // a watch would end with an error
	if err := g.group.Wait(); err != nil {
		return err
	}
	for _, what := range []string{"ccm", "apiserver"} {
		if err := g.cluster.Stop(ctx, what); err != nil {
			return err
		}
	}
	g.leaderless = true
	err := g.cuts(ctx, name, interval)
	g.leaderless = false
	for _, what := range []string{"apiserver", "ccm"} {
		err = errors.Join(err, g.cluster.Start(ctx, what))
	}
	return errors.Join(err, g.begin(ctx), pause(ctx, healing))
}

// kills ends the announcer of the node that answers by SIGKILL. The node lives on, and
// a new announcer is started at once.
func (g *gapLab) kills(ctx context.Context, name string, before func(context.Context, netip.Addr) error) error {
	return g.repeat(ctx, name, func(ctx context.Context, t *trial) error {
		node, err := g.gather(ctx, "")
		if err != nil {
			return err
		}
		pid, err := g.announcer(node)
		if err != nil {
			return err
		}
		p := g.pulse(pulseInterval)
		if before != nil {
			p.interval, p.before = 4*pulseInterval, before
		}
		return g.during(ctx, t, p, func() error { return syscall.Kill(pid, syscall.SIGKILL) })
	})
}

// flush makes the client forget its neighbour.
func (g *gapLab) flush(ctx context.Context, address netip.Addr) error {
	out, err := exec.CommandContext(ctx, "ip", "-n", g.cluster.Layout().Client.NetNS,
		"neigh", "flush", "to", address.String(), "dev", "eth0",
		// Not one that is being asked for: that would fail a request which waits for it.
		"nud", "reachable", "nud", "stale", "nud", "delay", "nud", "probe").CombinedOutput()
	if err != nil {
		return fmt.Errorf("forget the neighbour: %w: %s", err, out)
	}
	return nil
}

// trial is one fault and what it did.
type trial struct {
	gap    time.Duration
	failed int
	// frames is when the last of the addresses was announced by somebody else; 0 where
	// that is not what is looked for.
	frames time.Duration
}

// repeat makes a fault many times and puts the figures into the sample.
func (g *gapLab) repeat(ctx context.Context, name string, once func(context.Context, *trial) error) error {
	var gaps, frames []float64
	failed := 0
	for i := range faults {
		var t trial
		bounded, cancel := context.WithTimeoutCause(ctx, gapPatience, errWaitedTooLong)
		err := once(bounded, &t)
		cancel()
		if err != nil {
			return fmt.Errorf("%s, fault %d: %w", name, i+1, err)
		}
		gaps, frames, failed = append(gaps, ms(t.gap)), append(frames, ms(t.frames)), failed+t.failed
	}
	g.sample.Raw[name+"_gap_ms"] = gaps
	g.sample.Figures[name+"_worst_ms"] = slices.Max(gaps)
	g.sample.Figures[name+"_median_ms"] = median(gaps)
	g.sample.Figures[name+"_failed_requests"] = float64(failed)
	if slices.Max(frames) > 0 {
		g.sample.Raw[name+"_frames_ms"] = frames
		g.sample.Figures[name+"_last_frame_worst_ms"] = slices.Max(frames)
	}
	say("%s: worst %s, median %s", name, withUnit("ms", slices.Max(gaps)), withUnit("ms", median(gaps)))
	return nil
}

// cut cuts one node off silently and heals it.
func (g *gapLab) cut(ctx context.Context, t *trial, node string, interval time.Duration) error {
	g.wire.anew(g.cluster.NodeMAC(node))
	var fault time.Time
	err := g.during(ctx, t, g.pulse(interval), func() error {
		fault = time.Now()
		if err := g.cluster.Cut(ctx, node, testbed.Silent); err != nil {
			return err
		}
		found, err := g.wire.all(ctx, g.addresses)
		for _, h := range found {
			t.frames = max(t.frames, h.at.Sub(fault))
		}
		return err
	})
	// Not with ctx: the cable is healed after an interrupt too.
	return errors.Join(err, g.cluster.Heal(context.WithoutCancel(ctx), node), pause(ctx, healing))
}

// pulse requests some of the addresses.
func (g *gapLab) pulse(interval time.Duration) *pulse {
	p := &pulse{interval: interval}
	for i := 0; i < len(g.addresses); i += max(1, len(g.addresses)/requested) {
		p.targets = append(p.targets, netip.AddrPortFrom(g.addresses[i], g.port))
	}
	return p
}

// during makes a fault while requests are made.
func (g *gapLab) during(ctx context.Context, t *trial, p *pulse, fault func() error) error {
	pulsing, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- p.run(pulsing, g.cluster.Layout().Client.NetNS) }()
	err := pause(ctx, calmBefore)
	began := time.Now()
	if err == nil {
		err = fault()
	}
	// A request that succeeds has to begin after the last that fails, however late that is.
	err = errors.Join(err, pause(ctx, max(pulseLimit, time.Until(began.Add(aftermath)))))
	stop()
	if err = errors.Join(err, <-ended); err != nil {
		return err
	}
	for _, r := range p.requests {
		if r.err != nil && r.began.Before(began.Add(-50*time.Millisecond)) {
			return fmt.Errorf("%s: %w: %w", r.target, errTooEarly, r.err)
		}
		if r.err != nil {
			t.failed++
		}
	}
	t.gap, err = gap(p.requests, began)
	return err
}

// leader returns the node of the present leader.
func (l *lab) leader(ctx context.Context) (string, error) {
	lease, err := l.client.CoordinationV1().Leases(system).Get(ctx, "baremetal-ccm", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	pods, err := l.client.CoreV1().Pods(system).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, pod := range pods.Items {
		if holder := ptr.Deref(lease.Spec.HolderIdentity, ""); strings.HasPrefix(holder, pod.Name) {
			return pod.Spec.NodeName, nil
		}
	}
	return "", fmt.Errorf("no Pod is the leader %q", ptr.Deref(lease.Spec.HolderIdentity, ""))
}
