// Command kubectl-baremetal is the administrator's plugin for kubectl: on the PATH it is run by
// `kubectl baremetal`. It shows Services, addresses and pools, turns the configuration of other load
// balancers into a cloud-config, and checks cloud-configs. See docs/operations.md and docs/migrate.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// Exit statuses.
const (
	statusError = 1
	// statusLost is that of a migration that could not carry over everything.
	statusLost = 3
)

// statusOf is an error that only sets the exit status: what it is about has been printed.
type statusOf int

func (s statusOf) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	err := newCommand(streams).ExecuteContext(ctx)
	if status, ok := errors.AsType[statusOf](err); ok {
		return int(status)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		return statusError
	}
	return 0
}
