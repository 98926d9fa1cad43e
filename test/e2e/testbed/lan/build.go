package lan

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"time"

	"baremetal.cloud/ccm/test/e2e/testbed/netns"
)

// Build makes the namespaces and everything in them. After an error Remove clears what
// was made.
func (l Layout) Build(ctx context.Context) error {
	spaces := []string{l.LAN}
	if l.Mgmt != "" {
		spaces = append(spaces, l.Mgmt)
	}
	for _, h := range l.Hosts() {
		spaces = append(spaces, h.NetNS)
	}
	for _, ns := range spaces {
		if err := AddNetNS(ctx, ns); err != nil {
			return err
		}
	}
	for _, ns := range l.forwarders() {
		if err := netns.Sysctl(ns, map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}); err != nil {
			return err
		}
	}
	for _, s := range l.Scripts() {
		if err := netns.Batch(ctx, s.NetNS, s.Commands); err != nil {
			return err
		}
	}
	return nil
}

func (l Layout) forwarders() []string {
	forwarders := []string{l.FRR.NetNS, l.BIRD.NetNS}
	for _, n := range l.Nodes {
		forwarders = append(forwarders, n.NetNS)
	}
	return forwarders
}

// AddNetNS makes a namespace whose interfaces use their IPv6 addresses at once: nobody
// else on this LAN could have them, and waiting for that proof would cost seconds.
func AddNetNS(ctx context.Context, name string) error {
	if err := netns.Add(ctx, name); err != nil {
		return err
	}
	return netns.Sysctl(name, map[string]string{
		"ipv6/conf/default/accept_dad": "0",
		"ipv6/conf/default/accept_ra":  "0",
	})
}

// Remove ends every process in the namespaces of testbed id and deletes them. It may
// be called again, and for a testbed that was half made.
func Remove(ctx context.Context, id string) error {
	if err := Kill(ctx, id); err != nil {
		return err
	}
	names, err := netns.List(Prefix(id))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, netns.Delete(ctx, name))
	}
	return errors.Join(errs...)
}

// Kill ends every process in the namespaces of testbed id.
func Kill(ctx context.Context, id string) error {
	names, err := netns.List(Prefix(id))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, evict(ctx, name))
	}
	return errors.Join(errs...)
}

// evict kills the processes in a namespace: the namespace lives as long as they do.
func evict(ctx context.Context, name string) error {
	for {
		pids, err := netns.PIDs(ctx, name)
		if err != nil {
			return err
		}
		pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == os.Getpid() })
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
