package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

const routedManifest = `apiVersion: v1
kind: Service
metadata:
  name: routed
  annotations: {baremetal.cloud/pool: routed}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports:
  - port: 80
    targetPort: 8080
`

// routed shows the same with an address that routers are told of by BGP.
func (s *story) routed(ctx context.Context) error {
	say("A Service with an address that routers are told of by BGP")
	address, err := s.create(ctx, "routed", routedManifest)
	if err != nil {
		return err
	}
	say("The router's own view: every node is a next hop")
	if err := s.heard(ctx, address, len(s.c.Nodes())); err != nil {
		return err
	}
	if err := s.requested(ctx, address); err != nil {
		return err
	}
	say("The Service is deleted, and its route withdrawn")
	if err := s.kubectl(ctx, "delete", "service", "routed"); err != nil {
		return err
	}
	return s.heard(ctx, address, 0)
}

// heard waits until FRR has heard of the address from so many nodes, and shows what it holds.
func (s *story) heard(ctx context.Context, address netip.Addr, nodes int) error {
	command := fmt.Sprintf("show ip route %s/32", address)
	var out string
	err := s.wait(ctx, "FRR holds another number of next hops", func() (err error) {
		if out, err = s.c.FRR(ctx, command); err != nil {
			return err
		}
		if held := strings.Count(out, "* "); held != nodes {
			return fmt.Errorf("%d next hops:\n%s", held, out)
		}
		return nil
	})
	fmt.Printf("frr# %s\n%s\n", command, strings.TrimSpace(out))
	return err
}
