package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"baremetal.cloud/ccm/test/e2e/testbed/controlplane"
	"baremetal.cloud/ccm/test/e2e/testbed/kubelet"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// boot starts everything in the order of its needs; what it starts runs in group.
func (s *supervisor) boot(ctx context.Context, group *errgroup.Group) error {
	s.progress("network: %d nodes on a LAN, management %s", len(s.nodes), s.Mgmt)
	if err := s.layout.Build(ctx); err != nil {
		return err
	}
	if s.Routers {
		if err := errors.Join(s.quietRouters(), s.startRouters(ctx, group)); err != nil {
			return err
		}
	}
	s.progress("control plane: etcd and kube-apiserver")
	group.Go(func() error { return s.etcd.Run(ctx) })
	if err := s.etcdReady(ctx); err != nil {
		return err
	}
	group.Go(func() error { return s.apiserver.Run(ctx) })
	if err := s.apiReady(ctx); err != nil {
		return err
	}
	s.progress("control plane: kube-controller-manager; nodes with kube-proxy in mode %s", s.Proxy)
	group.Go(func() error { return s.kcm.Run(ctx) })
	scheduler, _, err := s.client("scheduler", s.layout.ControlPlane.NetNS)
	if err != nil {
		return err
	}
	group.Go(func() error {
		return (&kubelet.Scheduler{Client: scheduler, Nodes: s.layout.NodeNames(), Logger: s.logger}).Run(ctx)
	})
	for _, n := range s.nodes {
		group.Go(func() error { return n.agent.Run(ctx) })
		group.Go(func() error { return n.proxy.Run(ctx) })
	}
	if err := await(ctx, 3*time.Minute, "nodes are not Ready", s.nodesReady); err != nil {
		return err
	}
	if err := s.proxiesReady(ctx); err != nil {
		return err
	}
	if err := s.deploy(ctx); err != nil {
		return err
	}
	return s.writeEnv()
}

func (s *supervisor) etcdReady(ctx context.Context) error {
	return await(ctx, 3*time.Minute, "etcd is not healthy", func(ctx context.Context) error {
		_, err := get(ctx, s.layout.ControlPlane.NetNS, "http://"+controlplane.EtcdAddress+"/health")
		return err
	})
}

func (s *supervisor) apiReady(ctx context.Context) error {
	return await(ctx, 3*time.Minute, "kube-apiserver is not ready", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return s.admin.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

func (s *supervisor) nodesReady(ctx context.Context) error {
	list, err := s.admin.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ready := 0
	for _, n := range list.Items {
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	if ready != len(s.nodes) {
		return fmt.Errorf("%d of %d nodes are Ready", ready, len(s.nodes))
	}
	return nil
}

func (s *supervisor) proxiesReady(ctx context.Context) error {
	for _, n := range s.nodes {
		err := await(ctx, 3*time.Minute, "kube-proxy of "+n.agent.Node.Name+" is not healthy", func(ctx context.Context) error {
			_, err := get(ctx, n.agent.Node.NetNS, "http://127.0.0.1:10256/healthz")
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// get requests url from inside a network namespace and returns the body of a 200.
func get(ctx context.Context, ns, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: netns.Dialer(ns), DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return body, fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return body, nil
}

// installPrograms copies what Pods run into the testbed, so that a build beside a
// running testbed does not change it, and wraps kubectl.
func (s *supervisor) installPrograms() error {
	if err := os.MkdirAll(s.bin(), 0o755); err != nil {
		return err
	}
	for _, name := range []string{ccmImage, announcerImage, "web"} {
		err := copyProgram(filepath.Join(s.BinDir, name), filepath.Join(s.bin(), name))
		if errors.Is(err, os.ErrNotExist) && s.NoDeploy {
			continue
		}
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w; build it with `make build`", err)
		}
		if err != nil {
			return err
		}
	}
	// kubectl's cache would otherwise be left in the home directory.
	wrapper := fmt.Sprintf("#!/bin/sh\nexport KUBECACHEDIR='%s' KUBECONFIG=\"${KUBECONFIG:-%s}\"\nexec '%s' \"$@\"\n",
		filepath.Join(s.Dir, "kubectl-cache"), s.hostKubeconfig(), filepath.Join(s.BinDir, "kubectl"))
	return os.WriteFile(filepath.Join(s.bin(), "kubectl"), []byte(wrapper), 0o755)
}

func copyProgram(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}
