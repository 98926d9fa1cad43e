package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

// gather makes one node answer for all addresses, the one that answers for most of them
// if none is named: the others are kept from it for a while, and take nothing back.
func (g *gapLab) gather(ctx context.Context, node string) (string, error) {
	owners, err := g.wire.owners(ctx, g.addresses)
	if err != nil {
		return "", err
	}
	count := map[string]int{}
	for _, mac := range owners {
		count[mac]++
	}
	byNode := func(a, b string) int { return count[g.cluster.NodeMAC(a)] - count[g.cluster.NodeMAC(b)] }
	if node == "" {
		node = slices.MaxFunc(g.cluster.Nodes(), byNode)
	}
	mac := g.cluster.NodeMAC(node)
	if count[mac] == len(g.addresses) {
		return node, nil
	}
	others := slices.DeleteFunc(slices.Clone(g.cluster.Nodes()), func(other string) bool { return other == node })
	for _, other := range others {
		if err := g.keepOut(ctx, other, true); err != nil {
			return "", err
		}
	}
	err = g.all(ctx, mac)
	for _, other := range others {
		err = errors.Join(err, g.keepOut(context.WithoutCancel(ctx), other, false))
	}
	if err = errors.Join(err, pause(ctx, healing)); err != nil {
		return "", err
	}
	return node, g.all(ctx, mac)
}

// keepOut has a node answer for nothing, or lets it: by the exclude label, or where there is
// nobody to read it by taking its carrier. A leader that is cut off, too, would give addresses
// from one node to the other before it has heard of both.
func (g *gapLab) keepOut(ctx context.Context, node string, out bool) error {
	switch {
	case g.leaderless && out:
		return g.cluster.Cut(ctx, node, testbed.Loud)
	case g.leaderless:
		return g.cluster.Heal(ctx, node)
	}
	label := corev1.LabelNodeExcludeBalancers + "-"
	if out {
		label = corev1.LabelNodeExcludeBalancers + "=true"
	}
	_, err := g.cluster.Kubectl(ctx, "label", "node", node, label)
	return err
}

// all waits until one node answers for all addresses.
func (g *gapLab) all(ctx context.Context, mac string) error {
	for {
		owners, err := g.wire.owners(ctx, g.addresses)
		if err != nil {
			return err
		}
		if different := slices.Compact(slices.Sorted(maps.Values(owners))); slices.Equal(different, []string{mac}) {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%s does not answer for all addresses: %w", mac, context.Cause(ctx))
		}
	}
}
