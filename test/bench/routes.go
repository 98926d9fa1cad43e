package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// routes measures what a router sees, on a testbed with routers of its own.
func routes(ctx context.Context, _ *lab, runs int) (r result, err error) {
	bed, err := settings{nodes: 3, routers: true}.lab(ctx)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, bed.down()) }()
	return repeat(ctx, runs, func(ctx context.Context, i int) (sample, error) {
		s := newSample()
		for _, part := range []func(context.Context, sample, int) error{bed.firstRoutes, bed.restartedSpeaker, bed.fewerHops, bed.manyPrefixes, bed.crashes} {
			if err := part(ctx, s, i); err != nil {
				return s, err
			}
		}
		return s, nil
	})
}

// restartedSpeaker has the announcer of the only next hop die, and restart, while requests
// go by way of the router.
func (l *lab) restartedSpeaker(ctx context.Context, s sample, _ int) error {
	node := l.cluster.Nodes()[0]
	return l.announced(ctx, []string{node}, func(ctx context.Context, targets []netip.AddrPort) error {
		err := l.duringWork(ctx, s, "killed", targets, func(ctx context.Context) error {
			pid, err := l.announcer(node)
			if err != nil {
				return err
			}
			return errors.Join(syscall.Kill(pid, syscall.SIGKILL), pause(ctx, restarting))
		})
		if err != nil {
			return err
		}
		return l.duringWork(ctx, s, "restart", targets, func(ctx context.Context) error {
			return errors.Join(l.cluster.Restart(ctx, "announcer:"+node), pause(ctx, restarting))
		})
	})
}

// fewerHops takes one of two next hops away and gives it back.
func (l *lab) fewerHops(ctx context.Context, s sample, _ int) error {
	nodes := l.cluster.Nodes()[:2]
	return l.announced(ctx, nodes, func(ctx context.Context, targets []netip.AddrPort) error {
		err := l.duringWork(ctx, s, "exclude", targets, func(ctx context.Context) error {
			return l.kubectl(ctx, [][]string{
				{"label", "node", nodes[0], corev1.LabelNodeExcludeBalancers + "=true"},
				{"label", "node", nodes[0], corev1.LabelNodeExcludeBalancers + "-"},
			})
		})
		if err != nil {
			return err
		}
		return l.duringWork(ctx, s, "drain", targets, func(ctx context.Context) error {
			return l.kubectl(ctx, [][]string{
				{"scale", "deployment", routedName(nodes[0]), "--replicas=0"},
				{"scale", "deployment", routedName(nodes[0]), "--replicas=1"},
			})
		})
	})
}

const (
	// restarting is the time for an announcer to start and to have its sessions again.
	restarting = 5 * time.Second
	// routedServices are requested behind a router.
	routedServices = 20
)

// routedPods are a web server on one node that goes on for a while when it is told to end.
const routedPods = `apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: routed, node: %[2]s}}
  template:
    metadata: {labels: {app: routed, node: %[2]s}}
    spec:
      nodeSelector: {kubernetes.io/hostname: %[2]s}
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 20
      containers:
      - name: web
        image: testbed/web
        env:
        - {name: POD_NAME, value: web-%[1]s}
        - {name: LINGER, value: 8s}
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
`

func routedName(node string) string { return "routed-" + node }

// announced has Services with an endpoint on each of nodes and no other, each a next hop of
// the router, and lets f request them. Then it removes them.
func (l *lab) announced(ctx context.Context, nodes []string, f func(context.Context, []netip.AddrPort) error) (err error) {
	manifest := ""
	for _, node := range nodes {
		manifest += fmt.Sprintf(routedPods, routedName(node), node)
	}
	if err := l.cluster.Apply(ctx, manifest); err != nil {
		return err
	}
	names := series("routed", routedServices)
	defer func() {
		for _, node := range nodes {
			_, failed := l.cluster.Kubectl(context.WithoutCancel(ctx), "delete", "deployment", routedName(node))
			err = errors.Join(err, failed)
		}
		err = errors.Join(err, l.deleteAll(context.WithoutCancel(ctx), names))
	}()
	if _, err := l.createAll(ctx, names, func(svc *corev1.Service) {
		fromPool("routed")(svc)
		local(svc)
		svc.Spec.Selector = map[string]string{"app": "routed"}
	}); err != nil {
		return err
	}
	seen, err := l.watch.wait(ctx, names, func(s sighting, _ bool) bool { return !s.announced.IsZero() })
	if err != nil {
		return err
	}
	var targets []netip.AddrPort
	for _, s := range seen {
		if err := l.hops(ctx, s.address, len(nodes)); err != nil {
			return err
		}
		targets = append(targets, netip.AddrPortFrom(s.address, servicePort))
	}
	if err := errors.Join(l.quiet(ctx), pause(ctx, healing)); err != nil {
		return err
	}
	return f(ctx, targets)
}

// hops waits until FRR's host has so many next hops to address.
func (l *lab) hops(ctx context.Context, address netip.Addr, want int) error {
	return until(ctx, func() error {
		out, err := l.cluster.In(ctx, "frr", "ip", "route", "show", address.String())
		if err == nil && strings.Count(out, "via ") != want {
			err = fmt.Errorf("FRR has other next hops to %s than %d: %s", address, want, out)
		}
		return err
	})
}
