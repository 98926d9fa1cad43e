// Command demo shows the main job on a testbed of real Kubernetes components: a Service
// of type LoadBalancer gets an address, one node answers for it, a client requests it,
// and nobody answers once it is deleted. It leaves nothing behind, also when it is
// interrupted.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"baremetal.cloud/ccm/test/e2e/testbed"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	began := time.Now()
	err := demo(ctx)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "demo: interrupted; everything is cleaned up")
		return 130
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	fmt.Printf("\nThat was all, in %s. Nothing is left but .cache/.\n", time.Since(began).Round(time.Second))
	return 0
}

// demo boots a testbed, tells the story on it and removes it.
func demo(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "baremetal-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	say("Booting a cluster of real Kubernetes components on a LAN of network namespaces")
	c, err := testbed.Up(ctx, testbed.Options{
		Dir: filepath.Join(dir, "testbed"), Nodes: 3, Proxy: "nftables", Mgmt: "lan", Routers: true, OwnerPID: os.Getpid(), Progress: os.Stdout,
	})
	if err != nil {
		return err
	}
	defer func() {
		// Not with ctx: what was made is removed after an interrupt too.
		if down := c.Down(context.Background()); err == nil {
			err = down
		}
	}()
	return (&story{c: c}).tell(ctx)
}

// say prints a heading.
func say(format string, args ...any) { fmt.Printf("\n==> "+format+"\n", args...) }
