package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	appconfig "k8s.io/cloud-provider/app/config"
	"k8s.io/cloud-provider/names"
	"k8s.io/cloud-provider/options"
	cliflag "k8s.io/component-base/cli/flag"
)

// program is one run of the command.
type program struct {
	flags     flags
	options   *options.CloudControllerManagerOptions
	namespace string
	log       *slog.Logger
	// ctx ends the program; its cause is the reason.
	ctx  context.Context
	stop context.CancelCauseFunc
	// parts are what serve built; nil before.
	parts *parts
}

// newCommand returns the command, which is the stock app's with our flags and with our
// parts started around it. It ends when ctx is done.
func newCommand(ctx context.Context) (*cobra.Command, error) {
	p := &program{
		namespace: cmp.Or(os.Getenv("POD_NAMESPACE"), "baremetal-ccm"),
		log:       newLogger(),
	}
	p.ctx, p.stop = context.WithCancelCause(ctx)
	var err error
	if p.options, err = newOptions(p.namespace); err != nil {
		return nil, err
	}
	var sections cliflag.NamedFlagSets
	p.flags.addFlags(&sections)

	command := app.NewCloudControllerManagerCommand(p.options, p.cloudProvider, p.controllerSet(), names.CCMControllerAliases(), sections, p.ctx.Done())
	if err := setLogFormat(command.Flags()); err != nil {
		return nil, fmt.Errorf("--logging-format: %w", err)
	}
	command.Use = programName
	command.Long = "baremetal-ccm gives Services of type LoadBalancer their addresses and has the nodes announce them."
	command.SilenceUsage = true // an error is not buried under two hundred flags
	command.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w; %s --help lists the flags", err, programName)
	})
	stock := command.RunE
	command.RunE = func(command *cobra.Command, arguments []string) error {
		if err := p.flags.checkCleanup(); err != nil {
			return err
		}
		switch {
		case wantsVersion(command.Flags()):
			fmt.Fprintln(command.OutOrStdout(), programName, versionText())
			return nil
		case p.flags.validateConfig != "":
			return p.validateConfig(command.InOrStdin(), command.OutOrStdout())
		case p.flags.cleanup:
			return p.removeOwn()
		}
		logEarly(command.Flags())
		return p.serveAll(func() error { return stock(command, arguments) })
	}
	return command, nil
}

// controllerSet are those that run on the leader. The stock cloud-node-lifecycle-controller
// is not one of them: it deletes the Nodes of machines that it takes for gone.
func (p *program) controllerSet() map[string]app.ControllerInitFuncConstructor {
	stockServices := app.DefaultInitFuncConstructors[names.ServiceLBController]
	stockNodes := app.DefaultInitFuncConstructors[names.CloudNodeController]
	return map[string]app.ControllerInitFuncConstructor{
		names.ServiceLBController: {InitContext: stockServices.InitContext, Constructor: p.serviceController},
		names.CloudNodeController: {
			InitContext: stockNodes.InitContext,
			Constructor: nodeController(stockNodes.Constructor),
		},
		ownControllerName: {
			InitContext: app.ControllerInitContext{ClientName: ownControllerName},
			Constructor: p.ownController,
		},
	}
}

// cloudProvider is called by the stock app once its configuration is complete. Every client that
// is made of that from here on, the service controller's among them, is fenced. Its
// informers are ours, which run on standbys too.
func (p *program) cloudProvider(config *appconfig.CompletedConfig) cloudprovider.Interface {
	config.SharedInformers = p.parts.informers
	config.Kubeconfig.Wrap(p.parts.elector.Fence().Wrap)
	config.Kubeconfig.Dial = dialAPIServer
	return p.parts.provider
}
