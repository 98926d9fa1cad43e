package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// singles is how many Services are created one at a time.
	singles = 30
	// breath is the time between the announcement of one and the creation of the next,
	// for the kube-proxies to finish with it.
	breath = 250 * time.Millisecond
	// waiters is how many other Services wait on an exhausted pool.
	waiters = 500
)

// oneAtATime creates Services one by one.
func oneAtATime(ctx context.Context, bed *lab, runs int) (result, error) {
	return repeat(ctx, runs, func(ctx context.Context, i int) (sample, error) {
		if i == 0 { // the first request of each kind is not what is measured
			if _, err := bed.singly(ctx, "warm", 3); err != nil {
				return sample{}, err
			}
		}
		s := newSample()
		waits, err := bed.singly(ctx, fmt.Sprintf("one-%d", i), singles)
		waits.figures(s, "")
		return s, err
	})
}

// whileOthersWait does the same before, during and after 500 Services wait. Before and
// after together are what it is compared with: a machine gets slower and faster.
func whileOthersWait(ctx context.Context, bed *lab, runs int) (result, error) {
	if err := bed.addPool(ctx, "tiny", "198.19.255.1/32", nil); err != nil {
		return result{}, err
	}
	return repeat(ctx, runs, func(ctx context.Context, i int) (sample, error) {
		s := newSample()
		before, err := bed.singly(ctx, fmt.Sprintf("before-%d", i), singles)
		if err != nil {
			return s, err
		}
		idle, err := bed.amongIdle(ctx, i)
		if err != nil {
			return s, err
		}
		during, err := bed.crowded(ctx, i)
		if err != nil {
			return s, err
		}
		after, err := bed.singly(ctx, fmt.Sprintf("after-%d", i), singles)
		if err != nil {
			return s, err
		}
		waits{
			addressed: slices.Concat(before.addressed, after.addressed),
			announced: slices.Concat(before.announced, after.announced),
			busy:      (before.busy + after.busy) / 2,
		}.figures(s, "alone_")
		idle.figures(s, "idle_")
		during.figures(s, "crowded_")
		s.Figures["over_idle_percent"] = 100 * (s.Figures["crowded_address_ms"]/s.Figures["idle_address_ms"] - 1)
		s.Figures["change_percent"] = 100 * (s.Figures["crowded_address_ms"]/s.Figures["alone_address_ms"] - 1)
		return s, nil
	})
}

// amongIdle measures while there are as many Services that want no load balancer: what
// more of them cost the API server and the kube-proxies.
func (l *lab) amongIdle(ctx context.Context, i int) (waits, error) {
	idle := series(fmt.Sprintf("idle-%d", i), waiters)
	clusterIP := func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP }
	if _, err := l.createAll(ctx, idle, clusterIP); err != nil {
		return waits{}, err
	}
	if err := l.quiet(ctx); err != nil {
		return waits{}, err
	}
	measured, err := l.singly(ctx, fmt.Sprintf("beside-%d", i), singles)
	if err != nil {
		return waits{}, err
	}
	return measured, l.deleteAll(ctx, idle)
}

// crowded measures while other Services wait on a pool whose only address is taken.
func (l *lab) crowded(ctx context.Context, i int) (waits, error) {
	holder := fmt.Sprintf("holder-%d", i)
	if _, err := l.create(ctx, holder, fromPool("tiny")); err != nil {
		return waits{}, err
	}
	if _, err := l.watch.addressed(ctx, []string{holder}); err != nil {
		return waits{}, err
	}
	waiting := series(fmt.Sprintf("waiting-%d", i), waiters)
	if _, err := l.createAll(ctx, waiting, fromPool("tiny")); err != nil {
		return waits{}, err
	}
	if err := l.watch.refused(ctx, waiting, "PoolExhausted"); err != nil {
		return waits{}, err
	}
	if err := l.quiet(ctx); err != nil {
		return waits{}, err
	}
	measured, err := l.singly(ctx, fmt.Sprintf("crowded-%d", i), singles)
	if err != nil {
		return waits{}, err
	}
	// The waiting ones go first, so that none of them gets the address.
	if err := l.deleteAll(ctx, waiting); err != nil {
		return waits{}, err
	}
	return measured, l.deleteAll(ctx, []string{holder})
}

// waits are how long Services waited after the create call's answer, in milliseconds:
// until a watch showed the address, and until it said that a node answers for it.
type waits struct {
	addressed, announced []float64
	// busy is the processor time of the CCM for each of them, from its creation on.
	busy float64
}

// figures puts the waits into s.
func (w waits) figures(s sample, prefix string) {
	s.Figures[prefix+"address_ms"] = median(w.addressed)
	s.Figures[prefix+"address_p90_ms"] = quantile(w.addressed, 0.9)
	s.Figures[prefix+"announced_ms"] = median(w.announced)
	s.Figures[prefix+"ccm_cpu_ms"] = w.busy
	s.Raw[prefix+"address_ms"] = w.addressed
	s.Raw[prefix+"announced_ms"] = w.announced
}

// singly creates n Services one by one and removes them.
func (l *lab) singly(ctx context.Context, prefix string, n int) (waits, error) {
	var w waits
	names := series(prefix, n)
	before, err := l.busy()
	if err != nil {
		return w, err
	}
	for _, name := range names {
		if err := pause(ctx, breath); err != nil {
			return w, err
		}
		created, err := l.create(ctx, name, nil)
		if err != nil {
			return w, err
		}
		seen, err := l.watch.addressed(ctx, []string{name})
		if err != nil {
			return w, err
		}
		w.addressed = append(w.addressed, ms(seen[0].addressed.Sub(created)))
		w.announced = append(w.announced, ms(seen[0].announced.Sub(created)))
	}
	after, err := l.busy()
	if err != nil {
		return w, err
	}
	w.busy = (after - before) / float64(n)
	if err := l.deleteAll(ctx, names); err != nil {
		return w, err
	}
	return w, l.quiet(ctx)
}
