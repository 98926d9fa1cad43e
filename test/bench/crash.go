package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// pathInterval, in milliseconds, and pathMultiplier are what both ends watch each other by.
const pathInterval, pathMultiplier = 100, 3

// crashes cuts off one of two next hops, silently, again and again: how long requests by way
// of the router fail, half of which it sends there.
func (l *lab) crashes(ctx context.Context, s sample, _ int) error {
	if err := l.watchPaths(ctx); err != nil {
		return err
	}
	nodes := l.cluster.Nodes()[:2]
	return l.announced(ctx, nodes, func(ctx context.Context, targets []netip.AddrPort) error {
		address := targets[0].Addr()
		g := &gapLab{lab: l, sample: s, addresses: []netip.Addr{address}, port: servicePort}
		return g.repeat(ctx, "crash", func(ctx context.Context, t *trial) error {
			err := g.during(ctx, t, g.pulse(pulseInterval), func() error { return l.cluster.Cut(ctx, nodes[0], testbed.Silent) })
			// Not with ctx: the cable is healed after an interrupt too.
			err = errors.Join(err, l.cluster.Heal(context.WithoutCancel(ctx), nodes[0]))
			return errors.Join(err, l.hops(ctx, address, len(nodes)), l.pathsUp(ctx, nodes[0]), pause(ctx, healing))
		})
	})
}

// watchPaths has the nodes and FRR watch each other by BFD.
func (l *lab) watchPaths(ctx context.Context) error {
	_, err := l.cluster.FRR(ctx, "configure terminal", "bfd", "profile nodes",
		fmt.Sprint("detect-multiplier ", pathMultiplier), fmt.Sprint("receive-interval ", pathInterval), fmt.Sprint("transmit-interval ", pathInterval))
	if err != nil {
		return err
	}
	err = l.configure(ctx, func(config map[string]any) error {
		bgp, _ := config["bgp"].(map[string]any)
		peers, _ := bgp["peers"].([]any)
		if len(peers) == 0 {
			return errors.New("the cloud-config has no peers")
		}
		for _, one := range peers {
			peer, ok := one.(map[string]any)
			if !ok {
				return fmt.Errorf("%v is no peer", one)
			}
			interval := fmt.Sprint(pathInterval, "ms")
			peer["bfd"] = map[string]any{"transmitInterval": interval, "receiveInterval": interval, "detectMultiplier": pathMultiplier}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, node := range l.cluster.Nodes() {
		if err := l.pathsUp(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

// pathsUp waits until node has BFD up with FRR over both families.
func (l *lab) pathsUp(ctx context.Context, node string) error {
	return until(ctx, func() error {
		out, err := l.metrics(ctx, node)
		for _, peer := range []string{"frr", "frr-v6"} {
			if err == nil && !strings.Contains(out, fmt.Sprintf("baremetal_announcer_bfd_session_up{peer=%q} 1\n", peer)) {
				err = fmt.Errorf("BFD of %s with %s is not up", node, peer)
			}
		}
		return err
	})
}

// until tries check again and again until it has no objection, for a while.
func until(ctx context.Context, check func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, gapPatience, errWaitedTooLong)
	defer cancel()
	for {
		objection := check()
		if objection == nil {
			return nil
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("%w: %w", objection, context.Cause(ctx))
		}
	}
}
