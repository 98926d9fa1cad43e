package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// dependency is a command that the testbed runs and the Debian package that has it.
type dependency struct{ command, pkg string }

func dependencies(routers bool) []dependency {
	list := []dependency{{"ip", "iproute2"}, {"nft", "nftables"}, {"iptables", "iptables"}}
	if routers {
		list = append(list, dependency{"vtysh", "frr"}, dependency{"bird", "bird2"})
	}
	return list
}

// Dependencies installs what is missing on this machine through apt-get, and keeps
// packages from starting services. Where that cannot be done it says what to do.
func Dependencies(ctx context.Context, routers bool, progress io.Writer) error {
	var missing []string
	for _, d := range dependencies(routers) {
		if _, err := exec.LookPath(d.command); err != nil {
			missing = append(missing, d.pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("missing: %s (Debian's package names); install them and try again: "+
			"this program can do it only as root and where there is apt-get", strings.Join(missing, ", "))
	}
	fmt.Fprintln(progress, "Installing", strings.Join(missing, ", "))
	restore, err := denyServices()
	if err != nil {
		return err
	}
	return errors.Join(install(ctx, missing), restore())
}

func install(ctx context.Context, packages []string) error {
	for _, args := range [][]string{
		{"-q", "update"},
		append([]string{"-q", "-y", "--no-install-recommends", "install"}, packages...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// policy is asked by Debian's packages before they start a service; 101 forbids it.
const policy = "/usr/sbin/policy-rc.d"

// denyServices forbids packages to start services until restore is called.
func denyServices() (restore func() error, err error) {
	f, err := os.OpenFile(policy, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, os.ErrExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString("#!/bin/sh\nexit 101\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(policy))
	}
	return func() error { return os.Remove(policy) }, nil
}
