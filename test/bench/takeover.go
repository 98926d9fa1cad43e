package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	// established is how many Services have addresses when a new leader begins.
	established = 10_000
	// newcomers is how many wait for it.
	newcomers = 10
	largePool = "large"
)

// takeover measures how soon a new leader allocates: both replicas are stopped, Services
// are created, and the replicas are started. The clock begins with the acquireTime that
// the leader writes into the Lease, on this same machine.
func takeover(ctx context.Context, bed *lab, runs int) (result, error) {
	if err := bed.addPool(ctx, largePool, "198.19.0.0/17", nil); err != nil {
		return result{}, err
	}
	if err := bed.establish(ctx); err != nil {
		return result{}, err
	}
	return repeat(ctx, runs, func(ctx context.Context, i int) (sample, error) {
		if err := bed.quiet(ctx); err != nil {
			return sample{}, err
		}
		return bed.takeOver(ctx, series(fmt.Sprintf("newcomer-%d", i), newcomers))
	})
}

// establish creates the Services that are there before. Nothing is measured by it, and
// it takes minutes; the kube-proxies of all nodes, which are on this one machine, would
// make it many more by writing their rules again and again.
func (l *lab) establish(ctx context.Context) error {
	names := series("established", established)
	if len(l.watch.unseen(names)) == 0 {
		return nil
	}
	for _, node := range l.cluster.Nodes() {
		if err := l.cluster.Stop(ctx, "kube-proxy:"+node); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(names, 1000) {
		if _, err := l.createAll(ctx, l.watch.unseen(batch), inLargePool); err != nil {
			return err
		}
		if _, err := l.watch.addressed(ctx, batch); err != nil {
			return err
		}
		say("%s has its address", batch[len(batch)-1])
	}
	for _, node := range l.cluster.Nodes() {
		if err := l.cluster.Start(ctx, "kube-proxy:"+node); err != nil {
			return err
		}
	}
	return rulesWritten(ctx)
}

// rulesWritten waits, for some minutes, until the machine is calm: kube-proxies that are given so
// many Services at once write rules for so long.
func rulesWritten(ctx context.Context) error {
	for range 5 {
		if busy, err := machineCalm(ctx); err != nil || busy < calm {
			return err
		}
	}
	return nil
}

// inLargePool makes a Service of which there may be more than there are node ports.
func inLargePool(svc *corev1.Service) {
	fromPool(largePool)(svc)
	svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
}

func (l *lab) takeOver(ctx context.Context, names []string) (sample, error) {
	s := newSample()
	if err := l.cluster.Stop(ctx, "ccm"); err != nil {
		return s, err
	}
	if _, err := l.createAll(ctx, names, inLargePool); err != nil {
		return s, err
	}
	if err := l.cluster.Start(ctx, "ccm"); err != nil {
		return s, err
	}
	seen, err := l.watch.addressed(ctx, names)
	if err != nil {
		return s, err
	}
	acquired, err := l.acquired(ctx)
	if err != nil {
		return s, err
	}
	for _, of := range []struct {
		name string
		at   func(sighting) time.Time
	}{
		{"allocated", func(s sighting) time.Time { return s.allocated }},
		{"address", func(s sighting) time.Time { return s.addressed }},
		{"announced", func(s sighting) time.Time { return s.announced }},
	} {
		var after []float64
		for _, one := range seen {
			after = append(after, ms(of.at(one).Sub(acquired)))
		}
		if slices.Min(after) < 0 {
			return s, errors.New("the Lease changed hands while it was measured")
		}
		s.Raw[of.name+"_ms"] = after
		s.Figures["first_"+of.name+"_ms"] = slices.Min(after)
		s.Figures["last_"+of.name+"_ms"] = slices.Max(after)
	}
	return s, l.deleteAll(ctx, names)
}

// acquired returns when the present leader took the Lease.
func (l *lab) acquired(ctx context.Context) (time.Time, error) {
	lease, err := l.client.CoordinationV1().Leases(system).Get(ctx, "baremetal-ccm", metav1.GetOptions{})
	if err != nil {
		return time.Time{}, err
	}
	if lease.Spec.AcquireTime == nil || ptr.Deref(lease.Spec.HolderIdentity, "") == "" {
		return time.Time{}, errors.New("nobody holds the Lease")
	}
	return lease.Spec.AcquireTime.Time, nil
}
