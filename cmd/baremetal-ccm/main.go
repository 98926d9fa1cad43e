// Command baremetal-ccm is the cloud-controller-manager for clusters on bare metal: the
// stock app of k8s.io/cloud-provider with the stock service controller and the provider
// "baremetal". See docs/ for what it does and deploy/ for how it is run.
package main

import (
	"fmt"
	"os"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics of API requests and queues
	_ "k8s.io/component-base/metrics/prometheus/version"  // metric kubernetes_build_info
)

func main() { os.Exit(run()) }

// run returns the exit status: 0, or 1 with the cause on standard error.
func run() int {
	command, err := newCommand(genericapiserver.SetupSignalContext())
	if err == nil {
		err = cli.RunNoErrOutput(command)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", programName, err)
		return 1
	}
	return 0
}
