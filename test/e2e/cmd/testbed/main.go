// Command testbed boots a cluster of real Kubernetes components on a LAN of network
// namespaces, stops and starts parts of it, and removes every trace of it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"baremetal.cloud/ccm/test/e2e/testbed"
	"baremetal.cloud/ccm/test/e2e/testbed/proc"
)

const usage = `usage: testbed COMMAND [FLAGS]
  components                build the Kubernetes components into .cache/bin
  helm                      build Helm into .cache/bin
  up --dir=DIR [--nodes=3] [--proxy=nftables|iptables] [--mgmt=lan|separate]
     [--external=yes|no] [--routers=yes|no] [--no-deploy] [--overlay=PATH] [--bin-dir=PATH] [--owner-pid=PID]
  stop --dir=DIR --what=ccm|ccm:NODE|apiserver|etcd|kcm|kube-proxy:NODE|announcer:NODE
  start --dir=DIR --what=...
  down --dir=DIR
`

func main() {
	proc.RunIfShim()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := command(ctx, args[0], args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 2
	case err != nil:
		fmt.Fprintln(os.Stderr, "testbed:", err)
		return 1
	}
	return 0
}

func command(ctx context.Context, name string, args []string) error {
	flags := flag.NewFlagSet("testbed "+name, flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	o := testbed.Options{Progress: os.Stdout}
	flags.StringVar(&o.Dir, "dir", "", "")
	flags.IntVar(&o.Nodes, "nodes", 3, "")
	flags.StringVar(&o.Proxy, "proxy", "", "")
	flags.StringVar(&o.Mgmt, "mgmt", "", "")
	flags.BoolFunc("external", "", func(value string) (err error) {
		o.External, err = yesOrNo(value)
		return err
	})
	flags.BoolVar(&o.NoDeploy, "no-deploy", false, "")
	flags.StringVar(&o.Overlay, "overlay", "", "")
	flags.StringVar(&o.BinDir, "bin-dir", "", "")
	flags.IntVar(&o.OwnerPID, "owner-pid", 0, "")
	flags.BoolFunc("routers", "", func(value string) (err error) {
		o.Routers, err = yesOrNo(value)
		return err
	})
	what := flags.String("what", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.Nodes < 1 {
		return fmt.Errorf("--nodes=%d: a testbed has one node or more", o.Nodes)
	}
	switch name {
	case "components":
		return build(ctx, o, testbed.Components)
	case "helm":
		return build(ctx, o, testbed.Helm)
	case "up":
		_, err := testbed.Up(ctx, o)
		return err
	case "stop", "start":
		return order(ctx, name, o.Dir, *what)
	case "down":
		if o.Dir == "" {
			return errors.New("which testbed? --dir=PATH")
		}
		return testbed.Down(ctx, o.Dir)
	case "supervise":
		return testbed.Supervise(ctx, o.Dir, testbed.EventPipe())
	}
	flags.Usage()
	return flag.ErrHelp
}

// yesOrNo reads what make passes on; "true" is a flag without a value.
func yesOrNo(value string) (bool, error) {
	switch value {
	case "yes", "true":
		return true, nil
	case "no":
		return false, nil
	}
	return false, errors.New("say yes or no")
}

// build builds programs that others have written.
func build(ctx context.Context, o testbed.Options, programs func(ctx context.Context, bin string, progress io.Writer) error) error {
	if o.BinDir == "" {
		repo, err := testbed.Repository()
		if err != nil {
			return err
		}
		o.BinDir = filepath.Join(repo, ".cache", "bin")
	}
	return programs(ctx, o.BinDir, os.Stdout)
}

func order(ctx context.Context, name, dir, what string) error {
	c, err := testbed.Attach(dir)
	if err != nil {
		return err
	}
	fmt.Printf("testbed: %s %s\n", name, what)
	if name == "stop" {
		return c.Stop(ctx, what)
	}
	return c.Start(ctx, what)
}
