package testbed

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"baremetal.cloud/ccm/test/e2e/testbed/kubelet"
	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// Cluster is a testbed that is up.
type Cluster struct {
	record
	layout lan.Layout
	macs   map[string]string
}

// Attach returns the testbed that is up in dir.
func Attach(dir string) (*Cluster, error) {
	dir, err := realPath(dir)
	if err != nil {
		return nil, err
	}
	r, err := readRecord(dir)
	if err != nil {
		return nil, fmt.Errorf("no testbed in %s: %w", dir, err)
	}
	c := &Cluster{record: r, macs: map[string]string{}}
	if c.layout, err = r.layout(); err != nil {
		return nil, err
	}
	for _, n := range c.layout.Nodes {
		err := netns.Do(n.NetNS, func() error {
			i, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			c.macs[n.Name] = i.HardwareAddr.String()
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Down removes every trace of the testbed.
func (c *Cluster) Down(ctx context.Context) error { return Down(ctx, c.Dir) }

// Stop ends what `what` names (ccm, ccm:NODE, apiserver, etcd, kcm, kube-proxy:NODE,
// announcer:NODE) and keeps it from being started again. It returns once it is gone. To start
// kubelet:NODE registers a Node that was deleted; to stop it does nothing.
func (c *Cluster) Stop(ctx context.Context, what string) error {
	return order(ctx, c.layout.ID, "stop", what)
}

// Start lets what Stop ended run again and returns once it does.
func (c *Cluster) Start(ctx context.Context, what string) error {
	return order(ctx, c.layout.ID, "start", what)
}

// Restart stops and starts.
func (c *Cluster) Restart(ctx context.Context, what string) error {
	if err := c.Stop(ctx, what); err != nil {
		return err
	}
	return c.Start(ctx, what)
}

// Nodes returns the nodes' names.
func (c *Cluster) Nodes() []string { return c.layout.NodeNames() }

// NodeMAC returns the hardware address of a node on the LAN, "" for an unknown node.
func (c *Cluster) NodeMAC(node string) string { return c.macs[node] }

// Address returns the addresses of a host on the LAN, zero ones for an unknown host.
func (c *Cluster) Address(host string) lan.Pair {
	for _, h := range c.layout.Hosts() {
		if h.Name == host {
			return h.LAN
		}
	}
	return lan.Pair{}
}

// Listen listens on a TCP address of a host.
func (c *Cluster) Listen(host, address string) (l net.Listener, err error) {
	err = netns.Do(c.NetNS(host), func() error {
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// PoolV4 returns the IPv4 prefix of the pool called default.
func (c *Cluster) PoolV4() netip.Prefix { return c.layout.PoolV4 }

// PoolV6 returns the IPv6 prefix of the pool called default.
func (c *Cluster) PoolV6() netip.Prefix { return c.layout.PoolV6 }

// Layout returns the network.
func (c *Cluster) Layout() lan.Layout { return c.layout }

// Logs returns the directory with what every process has written.
func (c *Cluster) Logs() string { return filepath.Join(c.Dir, logsDir) }

// Binary returns the file of a program that runs in the testbed.
func (c *Cluster) Binary(name string) string { return filepath.Join(c.Dir, "bin", name) }

// HostPath returns where a path of a node's own file system lies on this machine.
func (c *Cluster) HostPath(node, path string) string { return kubelet.HostPath(c.Dir, node, path) }

// Kubeconfig returns a file with the administrator's credentials for programs that run
// on a host of the testbed, as In runs them.
func (c *Cluster) Kubeconfig() string {
	return filepath.Join(c.Dir, "cluster", "admin.kubeconfig")
}

// HostKubeconfig returns a file with the administrator's credentials for programs on
// this machine.
func (c *Cluster) HostKubeconfig() string { return filepath.Join(c.Dir, "kubeconfig") }

// Client speaks to the API server as the administrator, without a rate limit.
func (c *Cluster) Client() (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.HostKubeconfig())
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return kubernetes.NewForConfig(config)
}

// Kubectl runs the real kubectl as the administrator and returns its standard output.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	out, err := runKubectl(ctx, c.Dir, "", args...)
	return string(out), err
}

// Apply applies a manifest.
func (c *Cluster) Apply(ctx context.Context, manifest string) error {
	_, err := runKubectl(ctx, c.Dir, manifest, "apply", "-f", "-")
	return err
}

// NetNS returns the network namespace of a host: a node, client, frr, bird, cp, or lan
// for the switch.
func (c *Cluster) NetNS(host string) string { return lan.Prefix(c.layout.ID) + host }

// In runs a command on a host and returns everything it wrote. The error is an *exec.ExitError
// where the command ran and failed, and exec.ErrNotFound where there is no such program: what
// waits until a command succeeds need not wait for that.
func (c *Cluster) In(ctx context.Context, host string, command ...string) (string, error) {
	if _, err := exec.LookPath(command[0]); err != nil {
		return "", fmt.Errorf("on %s: %w; hack/programs is to list it", host, err)
	}
	args := append([]string{"netns", "exec", c.NetNS(host)}, command...)
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("on %s: %s: %w", host, strings.Join(command, " "), err)
	}
	return string(out), nil
}

// Curl requests url from the client host, on a connection of its own, and returns the
// body of a 200.
func (c *Cluster) Curl(ctx context.Context, url string) (string, error) {
	body, err := get(ctx, c.layout.Client.NetNS, url)
	return string(body), err
}
