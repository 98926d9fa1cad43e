package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// webPort is where the web server of the testbed listens.
	webPort = 8080
	// election is how long keepalived may take to agree again after a fault is healed.
	election = 3 * time.Second
	// agreeing is how often a fault is tried, for they may not have agreed yet.
	agreeing = 3
)

// keepalived measures what gaps measures of one address, with keepalived in place of ours on
// the same nodes: VRRP with its default of an advert a second, and with ten.
func keepalived(ctx context.Context, bed *lab, _ int) (result, error) {
	return repeat(ctx, 1, func(ctx context.Context, _ int) (sample, error) {
		s := newSample()
		for _, v := range []struct {
			name   string
			advert time.Duration
		}{{"default", time.Second}, {"fast", 100 * time.Millisecond}} {
			if err := bed.vrrp(ctx, s, v.name, v.advert); err != nil {
				return s, fmt.Errorf("%s: %w", v.name, err)
			}
		}
		return s, nil
	})
}

// vrrpConfig is a virtual router whose nodes keep what they have: nobody takes an address back.
const vrrpConfig = `global_defs {
  vrrp_version 3
}
vrrp_instance address {
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 51
  priority %d
  advert_int %.2f
  virtual_ipaddress { %s/32 dev eth0 }
}
`

// vrrp lets keepalived hold an address of the testbed's pool that no Service has, on every
// node, beside a web server, and cuts off who has it.
func (l *lab) vrrp(ctx context.Context, s sample, name string, advert time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "baremetal-bench-vrrp-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	address := l.cluster.PoolV4().Addr()
	for range 1000 {
		address = address.Next()
	}
	running, stop := context.WithCancel(ctx)
	group, running := errgroup.WithContext(running)
	defer func() {
		stop()
		err = errors.Join(err, group.Wait())
	}()
	for i, node := range l.cluster.Nodes() {
		config := filepath.Join(dir, node+".conf")
		if err := os.WriteFile(config, fmt.Appendf(nil, vrrpConfig, 100+i, advert.Seconds(), address), 0o600); err != nil {
			return err
		}
		pid := func(what string) string { return filepath.Join(dir, node+"-"+what+".pid") }
		for _, command := range [][]string{
			{"keepalived", "-P", "-n", "-l", "-f", config, "-p", pid("parent"), "-r", pid("vrrp")},
			{l.cluster.Binary("web")},
		} {
			process := exec.CommandContext(running, "ip", append([]string{"netns", "exec", l.cluster.NetNS(node)}, command...)...)
			process.Env = append(os.Environ(), "POD_NAME="+node)
			process.Cancel = func() error { return process.Process.Signal(syscall.SIGTERM) }
			group.Go(func() error {
				if out, err := process.CombinedOutput(); running.Err() == nil {
					return fmt.Errorf("%s on %s ended: %w: %s", command[0], node, err, out)
				}
				return nil
			})
		}
	}
	return l.listen(running, func(ctx context.Context, w *wire) error {
		g := &gapLab{lab: l, sample: s, wire: w, addresses: []netip.Addr{address}, port: webPort}
		if err := pause(ctx, election+4*advert); err != nil {
			return err
		}
		return g.repeat(ctx, name, func(ctx context.Context, t *trial) error {
			for range agreeing {
				*t = trial{}
				err := errors.Join(g.cutHolder(ctx, t, address), pause(ctx, election+4*advert))
				if !errors.Is(err, errTooEarly) {
					return err
				}
				say("%s: once more: %v", name, err)
			}
			return errTooEarly
		})
	})
}

// cutHolder cuts off who has address.
func (g *gapLab) cutHolder(ctx context.Context, t *trial, address netip.Addr) error {
	// Whoever gave the address up may have announced it last.
	if err := g.flush(ctx, address); err != nil {
		return err
	}
	node, err := g.holder(ctx, address)
	if err != nil {
		return err
	}
	return g.cut(ctx, t, node, pulseInterval)
}

// holder returns the node that answers for address.
func (g *gapLab) holder(ctx context.Context, address netip.Addr) (string, error) {
	owners, err := g.wire.owners(ctx, []netip.Addr{address})
	if err != nil {
		return "", err
	}
	nodes := g.cluster.Nodes()
	i := slices.IndexFunc(nodes, func(node string) bool { return g.cluster.NodeMAC(node) == owners[address] })
	if i < 0 {
		return "", fmt.Errorf("%s answers for %s, which is no node", owners[address], address)
	}
	return nodes[i], nil
}
