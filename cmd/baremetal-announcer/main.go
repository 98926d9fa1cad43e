// Command baremetal-announcer runs on every node and carries out the node's plan: it
// answers ARP and NDP for the addresses that baremetal-ccm gave to the node. It needs
// the node's network namespace, CAP_NET_RAW, and CAP_SYS_NICE to be in time on a busy node,
// and nothing of the Kubernetes API. What it says to routers by BGP a second process says,
// which it starts. See docs/ for what it does and deploy/ for how it is run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == speakerCommand {
		os.Exit(runSpeaker())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run returns the exit status: 0 after a signal, 1 with the cause on stderr, 2 for flags
// that cannot be used.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, getenv, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\n", programName, err)
		return 2
	case o.version:
		fmt.Fprintln(stdout, programName, versionText())
		return 0
	}
	if err := serveAll(ctx, o, stderr); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", programName, err)
		return 1
	}
	return 0
}
