package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// rest is the time between two Services whose first bytes are measured: a kube-proxy
// that has just written its rules waits for a second before it does so again.
const rest = 1200 * time.Millisecond

// firstByte measures from the create call's answer to the first byte of an HTTP answer,
// through the address, asked from when the status shows it, and side by side through the
// NodePort of the node that turns out to answer for it.
func firstByte(ctx context.Context, bed *lab, runs int) (result, error) {
	return repeat(ctx, runs, func(ctx context.Context, i int) (s sample, err error) {
		names := series(fmt.Sprintf("first-%d", i), singles)
		var address, nodePort []float64
		err = bed.asking(ctx, func(ctx context.Context, a *asker) error {
			for _, name := range names {
				waited, waitedBeside, err := bed.firstByteOf(ctx, a, name)
				if err != nil {
					return fmt.Errorf("Service %s: %w", name, err)
				}
				address, nodePort = append(address, ms(waited)), append(nodePort, ms(waitedBeside))
			}
			return nil
		})
		if err != nil {
			return s, err
		}
		s = newSample()
		beside(s, "address_ms", median(address), median(nodePort))
		s.Raw["address_ms"], s.Raw["nodeport_ms"] = address, nodePort
		return s, bed.deleteAll(ctx, names)
	})
}

// beside puts what was found through addresses and through NodePorts into s.
func beside(s sample, name string, address, nodePort float64) {
	s.Figures[name] = address
	s.Figures["nodeport_"+name[len("address_"):]] = nodePort
	s.Figures["over_nodeport_percent"] = 100 * (address/nodePort - 1)
}

// firstByteOf creates one Service and returns how long its first byte took through its
// address, and through the NodePort of its owner.
func (l *lab) firstByteOf(ctx context.Context, a *asker, name string) (address, nodePort time.Duration, err error) {
	if err := pause(ctx, rest); err != nil {
		return 0, 0, err
	}
	created, err := l.create(ctx, name, nil)
	if err != nil {
		return 0, 0, err
	}
	seen, err := l.watch.wait(ctx, []string{name}, func(s sighting, _ bool) bool { return s.nodePort != 0 })
	if err != nil {
		return 0, 0, err
	}
	nodes := map[string]*target{}
	for _, node := range l.cluster.Layout().Nodes {
		nodes[node.Name] = a.add(netip.AddrPortFrom(node.LAN.V4, seen[0].nodePort))
	}
	if seen, err = l.watch.wait(ctx, []string{name}, func(s sighting, _ bool) bool { return s.address.IsValid() }); err != nil {
		return 0, 0, err
	}
	at, err := a.add(netip.AddrPortFrom(seen[0].address, servicePort)).wait(ctx)
	if err != nil {
		return 0, 0, err
	}
	owner, err := l.owner(ctx, seen[0].address)
	if err != nil {
		return 0, 0, err
	}
	besideAt, err := nodes[owner].wait(ctx)
	a.drop()
	return at.Sub(created), besideAt.Sub(created), err
}

// owner returns the node that answers for address.
func (l *lab) owner(ctx context.Context, address netip.Addr) (string, error) {
	answers, err := l.cluster.ARPAnswers(ctx, address, 1)
	if err != nil {
		return "", err
	}
	for _, node := range l.cluster.Nodes() {
		if answers[l.cluster.NodeMAC(node)] > 0 && len(answers) == 1 {
			return node, nil
		}
	}
	return "", fmt.Errorf("%s is answered for by %v", address, answers)
}

// nodePortOf returns the Service's node port, 0 if it has none.
func nodePortOf(svc *corev1.Service) uint16 {
	if len(svc.Spec.Ports) == 0 {
		return 0
	}
	return uint16(svc.Spec.Ports[0].NodePort)
}
