package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

const (
	// requests is how many ARP requests are broadcast to see who answers.
	requests = 20
	// patience bounds the wait for something to happen.
	patience = time.Minute
)

const manifest = `apiVersion: v1
kind: Service
metadata:
  name: hello
spec:
  type: LoadBalancer
  selector: {app: web}
  ports:
  - port: 80
    targetPort: 8080
`

// story is what the demo shows.
type story struct{ c *testbed.Cluster }

func (s *story) tell(ctx context.Context) error {
	say("The cluster")
	if err := s.kubectl(ctx, "get", "nodes", "-o", "wide"); err != nil {
		return err
	}
	if err := s.kubectl(ctx, "get", "pods", "-A", "-o", "wide"); err != nil {
		return err
	}
	say("The cloud-config: addresses to give out")
	if err := s.kubectl(ctx, "-n", "baremetal-ccm", "get", "configmap", "baremetal-cloud-config", "-o", `jsonpath={.data.cloud-config\.yaml}`); err != nil {
		return err
	}
	say("A Service of type LoadBalancer")
	address, err := s.create(ctx, "hello", manifest)
	if err != nil {
		return err
	}
	if err := s.kubectl(ctx, "describe", "service", "hello"); err != nil {
		return err
	}
	if err := s.answered(ctx, address); err != nil {
		return err
	}
	if err := s.requested(ctx, address); err != nil {
		return err
	}
	if err := s.routed(ctx); err != nil {
		return err
	}
	if err := s.cut(ctx, address); err != nil {
		return err
	}
	return s.deleted(ctx, address)
}

// kubectl runs a command of the administrator's and shows it with its output.
func (s *story) kubectl(ctx context.Context, args ...string) error {
	fmt.Println("$ kubectl", strings.Join(args, " "))
	out, err := s.c.Kubectl(ctx, args...)
	fmt.Println(strings.TrimRight(out, "\n"))
	return err
}

// create makes the Service called name by its manifest, and returns its address.
func (s *story) create(ctx context.Context, name, manifest string) (netip.Addr, error) {
	fmt.Print(manifest)
	began := time.Now()
	if err := s.c.Apply(ctx, manifest); err != nil {
		return netip.Addr{}, err
	}
	address, err := s.address(ctx, name)
	if err == nil {
		fmt.Printf("It has its address %s after %s.\n", address, time.Since(began).Round(time.Millisecond))
	}
	return address, err
}

// address waits until the status of the Service called name has an address.
func (s *story) address(ctx context.Context, name string) (netip.Addr, error) {
	var address netip.Addr
	err := s.wait(ctx, "the Service has no address; see `kubectl describe service "+name+"`", func() error {
		out, err := s.c.Kubectl(ctx, "get", "service", name, "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
		if err != nil {
			return err
		}
		address, err = netip.ParseAddr(strings.TrimSpace(out))
		return err
	})
	return address, err
}

// answered asks on the LAN who has the address.
func (s *story) answered(ctx context.Context, address netip.Addr) error {
	say("Who answers for %s? (%d ARP requests, broadcast by the client host)", address, requests)
	_, err := s.owner(ctx, address)
	return err
}

// owner waits until exactly one machine answers for the address, says which, and
// returns the node's name.
func (s *story) owner(ctx context.Context, address netip.Addr) (node string, err error) {
	err = s.wait(ctx, "not exactly one node answers", func() error {
		macs, err := s.c.ARPAnswers(ctx, address, requests)
		if err != nil {
			return err
		}
		if len(macs) != 1 {
			return fmt.Errorf("%d machines answer: %v", len(macs), slices.Sorted(maps.Keys(macs)))
		}
		for mac, answers := range macs {
			node = s.nodeOf(mac)
			fmt.Printf("%s answered %d times: that is %s.\n", mac, answers, node)
		}
		return nil
	})
	return node, err
}

func (s *story) nodeOf(mac string) string {
	for _, node := range s.c.Nodes() {
		if s.c.NodeMAC(node) == mac {
			return node
		}
	}
	return "nobody that belongs here"
}

// requested fetches a page from the client host, a few times, through kube-proxy.
func (s *story) requested(ctx context.Context, address netip.Addr) error {
	say("Requests from the client host")
	url := "http://" + address.String() + "/"
	for range 4 {
		err := s.wait(ctx, "the request fails", func() error {
			body, err := s.c.Curl(ctx, url)
			if err == nil {
				fmt.Printf("$ curl %s\n%s", url, body)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deleted deletes the Service and shows that the address falls silent.
func (s *story) deleted(ctx context.Context, address netip.Addr) error {
	say("The Service is deleted")
	if err := s.kubectl(ctx, "delete", "service", "hello"); err != nil {
		return err
	}
	return s.wait(ctx, "the address is still answered", func() error {
		macs, err := s.c.ARPAnswers(ctx, address, requests)
		switch {
		case err != nil:
			return err
		case len(macs) > 0:
			return fmt.Errorf("still answered by %v", slices.Sorted(maps.Keys(macs)))
		}
		fmt.Printf("Nobody answers for %s any more (%d ARP requests).\n", address, requests)
		return nil
	})
}

// wait tries until it works or patience ends.
func (s *story) wait(ctx context.Context, otherwise string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(errors.New(otherwise), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
