package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"baremetal.cloud/ccm/test/e2e/testbed/lan"
	"baremetal.cloud/ccm/test/e2e/testbed/netns"
	"baremetal.cloud/ccm/test/e2e/testbed/proc"
)

// The autonomous systems of the testbed.
const (
	NodeASN = 64512
	FRRASN  = 64513
	BIRDASN = 64514
)

// frrConfig takes every node of the LAN as a neighbour of both families, and spreads traffic
// over all that announce a prefix.
const frrConfig = `hostname frr
router bgp %[1]d
 bgp router-id %[3]s
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp graceful-restart stalepath-time 120
 neighbor nodes peer-group
 neighbor nodes remote-as %[2]d
 neighbor nodes timers connect 1
 neighbor nodes bfd profile nodes
 neighbor nodes6 peer-group
 neighbor nodes6 remote-as %[2]d
 neighbor nodes6 timers connect 1
 neighbor nodes6 bfd profile nodes
 bgp listen range %[4]s peer-group nodes
 bgp listen range %[5]s peer-group nodes6
 address-family ipv4 unicast
  neighbor nodes activate
  neighbor nodes route-map nothing out
  maximum-paths 16
 exit-address-family
 address-family ipv6 unicast
  neighbor nodes6 activate
  neighbor nodes6 route-map nothing out
  neighbor nodes6 route-map global in
  maximum-paths 16
 exit-address-family
exit
route-map nothing deny 10
exit
route-map global permit 10
 set ipv6 next-hop prefer-global
exit
`

// frrBFD is what FRR watches neighbours by, if they do.
const frrBFD = `hostname frr
bfd
 profile nodes
  detect-multiplier 5
  receive-interval 300
  transmit-interval 300
 exit
exit
`

// birdConfig is the same for BIRD.
const birdConfig = `router id %[3]s;
protocol device {}
protocol kernel { ipv4 { export all; }; merge paths on; }
protocol kernel { ipv6 { export all; }; merge paths on; }
protocol bfd { interface "eth0" { min rx interval 300 ms; min tx interval 300 ms; multiplier 5; }; }
protocol bgp nodes {
  local as %[1]d;
  neighbor range %[4]s as %[2]d;
  dynamic name "node";
  graceful restart on;
  error wait time 1, 2;
  bfd on;
  ipv4 { import all; export none; };
}
protocol bgp nodes6 {
  local as %[1]d;
  neighbor range %[5]s as %[2]d;
  dynamic name "node6_";
  graceful restart on;
  error wait time 1, 2;
  bfd on;
  ipv6 { import all; export none; };
}
`

// routerDir returns where a testbed's routers keep their files. It is short, as the path of a
// socket has to be, and open to FRR's own user, as a test's directory need not be.
func routerDir(id, router string) string {
	return filepath.Join(os.TempDir(), lan.Prefix(id)+"routers", router)
}

// startRouters runs FRR and BIRD until ctx ends, and returns once they take orders.
func (s *supervisor) startRouters(ctx context.Context, group *errgroup.Group) error {
	s.progress("routers: FRR and BIRD")
	if err := s.configureRouters(); err != nil {
		return err
	}
	for i, r := range s.routers {
		group.Go(func() error { return r.Run(ctx) })
		if i > 0 {
			continue
		}
		// The others would try again only after ten seconds, and what bgpd says of BFD before bfdd
		// is there is lost.
		err := await(ctx, time.Minute, "zebra does not listen", func(context.Context) error {
			_, err := os.Stat(filepath.Join(routerDir(s.layout.ID, "frr"), "zserv.api"))
			return err
		})
		if err != nil {
			return err
		}
	}
	return await(ctx, time.Minute, "the routers do not take orders", func(ctx context.Context) error {
		_, frr := runIn(ctx, s.layout.FRR.NetNS, "vtysh", "--vty_socket", routerDir(s.layout.ID, "frr"), "-c", "show bgp summary")
		_, bird := runIn(ctx, s.layout.BIRD.NetNS, "birdc", "-s", filepath.Join(routerDir(s.layout.ID, "bird"), "ctl"), "show", "status")
		return errors.Join(frr, bird)
	})
}

// configureRouters writes the configurations and names the programs.
func (s *supervisor) configureRouters() error {
	account, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("%w: is Debian's package frr installed?", err)
	}
	uid, _ := strconv.Atoi(account.Uid) // numbers on Linux
	gid, _ := strconv.Atoi(account.Gid)
	frr, bird := routerDir(s.layout.ID, "frr"), routerDir(s.layout.ID, "bird")
	v4, v6 := s.layout.Segment()
	for path, text := range map[string]string{
		filepath.Join(frr, "zebra.conf"): "hostname frr\n",
		filepath.Join(frr, "bgpd.conf"):  fmt.Sprintf(frrConfig, FRRASN, NodeASN, s.layout.FRR.LAN.V4, v4, v6),
		filepath.Join(frr, "bfdd.conf"):  frrBFD,
		filepath.Join(bird, "bird.conf"): fmt.Sprintf(birdConfig, BIRDASN, NodeASN, s.layout.BIRD.LAN.V4, v4, v6),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
		if filepath.Dir(path) == frr {
			if err := errors.Join(os.Chown(path, uid, gid), os.Chown(frr, uid, gid)); err != nil {
				return err
			}
		}
	}
	for _, daemon := range []string{"zebra", "bgpd", "bfdd"} {
		s.routers = append(s.routers, s.service("frr-"+daemon, func() proc.Command {
			return proc.Command{Path: "/usr/lib/frr/" + daemon, NetNS: s.layout.FRR.NetNS, Env: os.Environ(), Args: []string{
				"-f", filepath.Join(frr, daemon+".conf"), "-i", filepath.Join(frr, daemon+".pid"), "-z", filepath.Join(frr, "zserv.api"),
				"--vty_socket", frr, "-P", "0", "--log", "stdout",
			}}
		}))
	}
	s.routers = append(s.routers, s.service("bird", func() proc.Command {
		return proc.Command{Path: "/usr/sbin/bird", NetNS: s.layout.BIRD.NetNS, Env: os.Environ(), Args: []string{
			"-f", "-c", filepath.Join(bird, "bird.conf"), "-s", filepath.Join(bird, "ctl"), "-P", filepath.Join(bird, "pid"),
		}}
	}))
	return nil
}

// removeRouters deletes what routers of testbed id left.
func removeRouters(id string) error { return os.RemoveAll(filepath.Dir(routerDir(id, "frr"))) }

// FRR runs commands of vtysh on the router frr, each a line of its own, and returns the
// output.
func (c *Cluster) FRR(ctx context.Context, commands ...string) (string, error) {
	args := []string{"vtysh", "--vty_socket", routerDir(c.layout.ID, "frr")}
	for _, line := range commands {
		args = append(args, "-c", line)
	}
	return runIn(ctx, c.layout.FRR.NetNS, args...)
}

// BIRD runs a command of birdc on the router bird and returns the output.
func (c *Cluster) BIRD(ctx context.Context, command ...string) (string, error) {
	return runIn(ctx, c.layout.BIRD.NetNS, append([]string{"birdc", "-s", filepath.Join(routerDir(c.layout.ID, "bird"), "ctl")}, command...)...)
}

// ConfigureBIRD replaces what BIRD is told about BGP.
func (c *Cluster) ConfigureBIRD(ctx context.Context, change func(config string) string) error {
	path := filepath.Join(routerDir(c.layout.ID, "bird"), "bird.conf")
	config, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(change(string(config))), 0o644); err != nil {
		return err
	}
	_, err = c.BIRD(ctx, "configure")
	return err
}

// runIn runs a command inside a network namespace and returns everything it wrote.
func runIn(ctx context.Context, ns string, command ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns}, command...)...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("in %s: %v: %w: %s", ns, command, err, out)
	}
	return string(out), nil
}

// quietRouters keeps routers from telling hosts of a shorter way: everything here is on one
// segment, and the way through them is what is looked at.
func (s *supervisor) quietRouters() error {
	for _, ns := range []string{s.layout.FRR.NetNS, s.layout.BIRD.NetNS} {
		err := netns.Sysctl(ns, map[string]string{
			"ipv4/conf/all/send_redirects": "0", "ipv4/conf/eth0/send_redirects": "0",
			"ipv4/fib_multipath_hash_policy": "1", "ipv6/fib_multipath_hash_policy": "1",
		})
		if err != nil {
			return err
		}
	}
	return netns.Sysctl(s.layout.Client.NetNS, map[string]string{"ipv6/conf/all/accept_redirects": "0", "ipv6/conf/eth0/accept_redirects": "0"})
}
