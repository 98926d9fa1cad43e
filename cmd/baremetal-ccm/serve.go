package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/informers"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	appconfig "k8s.io/cloud-provider/app/config"
	"k8s.io/cloud-provider/names"
	"k8s.io/component-base/metrics/legacyregistry"
	genericcontrollermanager "k8s.io/controller-manager/app"
	"k8s.io/controller-manager/controller"

	"baremetal.cloud/ccm/pkg/cloud"
	"baremetal.cloud/ccm/pkg/cloud/auth"
	"baremetal.cloud/ccm/pkg/cloud/config"
	"baremetal.cloud/ccm/pkg/cloud/leader"
	"baremetal.cloud/ccm/pkg/cloud/livewatch"
)

// ownControllerName is how our controller is called among those of --controllers.
const ownControllerName = "baremetal-controller"

// Names of the announcers' side.
const (
	announcerServiceAccount = "baremetal-announcer"
	announcerAudience       = "baremetal.cloud/announcer"
	tlsSecret               = "baremetal-ccm-tls"
	caConfigMap             = "baremetal-ccm-ca"
)

// fallbackWait is how long a process with a bad cloud-config waits for the API server
// that may have the last good one.
const fallbackWait = 10 * time.Second

// parts are what runs beside the stock app.
type parts struct {
	elector  *leader.Elector
	keeper   *auth.CertManager
	provider *cloud.Provider
	// informers are shared by the provider and the stock controllers.
	informers informers.SharedInformerFactory
	// leading is closed when the stock app starts the leader's controllers.
	leading chan struct{}
	running sync.WaitGroup
}

// serveAll builds the parts and runs them and the stock app until a signal comes or one of
// them fails. The Lease is given back last, so that a successor finds nothing under way.
func (p *program) serveAll(stock func() error) error {
	if err := p.checkFlags(); err != nil {
		return err
	}
	started, reach, err := p.prepareStart()
	if err != nil || p.ctx.Err() != nil {
		return detailed(err)
	}
	if p.parts, err = p.buildParts(started.Config, reach); err != nil {
		return err
	}
	p.runPart("watches", p.parts.provider.Watch)
	p.runPart("leader election", p.runElection)
	p.runPart("serving certificate", p.parts.keeper.Run)
	p.runPart("announcers", p.parts.provider.Run)
	p.runPart("controller", p.runController)

	// The stock app neither drains nor returns promptly (it may be asking an API server
	// that is gone): what matters is held by the parts, and those are waited for.
	go func() { p.stop(endedError("cloud-controller-manager", stock())) }()
	<-p.ctx.Done()
	p.parts.running.Wait()
	if cause := context.Cause(p.ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil // a signal
}

// checkFlags refuses flags that cannot work before anything is started.
func (p *program) checkFlags() error {
	known := app.ControllerNames(p.controllerSet())
	if err := p.options.Validate(known, app.ControllersDisabledByDefault.List(), names.CCMControllerAliases(),
		app.AllWebhooks, app.DisabledByDefaultWebhooks); err != nil {
		return err
	}
	if err := errors.Join(p.checkControllers(), p.flags.checkTokenReviews()); err != nil {
		return err
	}
	return checkUnsupported(p.options)
}

// checkControllers refuses a --controllers that leaves out ours: the process would lead and
// do nothing, since plans, status and everything else are its work.
func (p *program) checkControllers() error {
	chosen := p.options.Generic.Controllers
	enabled := func(name string) bool {
		return genericcontrollermanager.IsControllerEnabled(name, app.ControllersDisabledByDefault, chosen)
	}
	if !enabled(ownControllerName) {
		return fmt.Errorf("--controllers=%s: leaves out %s, without which no Service is served; use --controllers=* (the default), and -NAME for each controller to be left out",
			strings.Join(chosen, ","), ownControllerName)
	}
	if !enabled(names.ServiceLBController) {
		p.log.Warn("the stock service controller is left out: finalizers that it wrote before are not removed, and Services that have one cannot be deleted",
			"controllers", strings.Join(chosen, ","))
	}
	return nil
}

// prepareStart reads the cloud-config and waits for the API server. A process with a bad file
// starts with the last good cloud-config, if the API server has one.
func (p *program) prepareStart() (cloud.Started, clients, error) {
	source, err := p.configSource()
	if err != nil {
		return cloud.Started{}, clients{}, err
	}
	var bad error
	if source.ConfigMap.Name == "" {
		_, _, bad = config.Load(source.Path)
	}
	reach, err := newClients(p.options)
	if err != nil {
		return cloud.Started{}, clients{}, errors.Join(bad, err)
	}
	ctx, cancel := p.ctx, context.CancelFunc(func() {})
	if bad != nil {
		ctx, cancel = context.WithTimeout(ctx, fallbackWait)
	}
	defer cancel()
	if err := waitForAPIServer(ctx, reach.general, p.log); err != nil {
		if p.ctx.Err() != nil {
			return cloud.Started{}, clients{}, nil // told to end
		}
		return cloud.Started{}, clients{}, errors.Join(bad, err)
	}
	if err := checkKubernetes(ctx, reach.general, p.log); err != nil {
		return cloud.Started{}, clients{}, errors.Join(bad, err)
	}
	started, err := cloud.StartConfig(ctx, reach.general, p.namespace, source)
	if err != nil {
		return cloud.Started{}, clients{}, err
	}
	if started.Stale != nil {
		p.log.Error("the cloud-config is refused; going on with the last good one", "err", started.Stale)
	}
	return started, reach, nil
}

// buildParts puts the parts together; it starts nothing.
func (p *program) buildParts(cfg *config.Config, reach clients) (*parts, error) {
	watches := livewatch.NewSet(p.log.With("component", "watch"))
	elector, err := p.newElector(reach, watches)
	if err != nil {
		return nil, err
	}
	keeper, err := auth.NewCertManager(auth.CertManagerOptions{
		Client: reach.general, Namespace: p.namespace, Secret: tlsSecret, ConfigMap: caConfigMap,
		CertFile: p.flags.certFile, KeyFile: p.flags.keyFile, Logger: p.log.With("component", "identity"),
	})
	if err != nil {
		return nil, err
	}
	source, err := p.configSource()
	if err != nil {
		return nil, err
	}
	shared := informers.NewSharedInformerFactory(reach.general, p.options.Generic.MinResyncPeriod.Duration)
	nodes := auth.NewNodes()
	provider, err := cloud.New(cloud.Options{
		ConfigMap:  source.ConfigMap,
		ConfigPath: source.Path,
		Config:     cfg,
		Elector:    elector,
		Authenticator: auth.NewAuthenticator(auth.AuthenticatorOptions{
			Client: reach.general, Namespace: p.namespace, ServiceAccount: announcerServiceAccount, Audience: announcerAudience,
			Nodes: nodes,
		}),
		Nodes:         nodes,
		TLS:           keeper,
		Secret:        keeper.Secret,
		ListenAddress: p.flags.listenAddress,
		ReviewEvery:   p.flags.tokenReviews,
		Client:        reach.general,
		Informers:     shared,
		Watches:       watches,
		Namespace:     p.namespace,
		Software:      programName + "/" + versionText(),
		Logger:        p.log,
	})
	if err != nil {
		return nil, err
	}
	legacyregistry.RawMustRegister(provider.Collector())
	return &parts{elector: elector, keeper: keeper, provider: provider, informers: shared, leading: make(chan struct{})}, nil
}

// newElector takes the stock app's election flags for our own election, and switches
// the stock app's off.
func (p *program) newElector(reach clients, watches *livewatch.Set) (*leader.Elector, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("host name: %w", err)
	}
	election := p.options.Generic.LeaderElection
	// After an outage the replica that led has two attempts before another replica stands: it
	// knows everything and serves at once.
	settled := 5 * election.RetryPeriod.Duration / 2
	p.options.Generic.LeaderElection.LeaderElect = false
	return leader.New(leader.Options{
		Leases:    reach.election.CoordinationV1(),
		Namespace: election.ResourceNamespace,
		Name:      election.ResourceName,
		// A restarted container has the same Pod name, but is not the same holder.
		Identity:      cmp.Or(os.Getenv("POD_NAME"), host) + "_" + string(uuid.NewUUID()),
		Elect:         election.LeaderElect,
		LeaseDuration: election.LeaseDuration.Duration,
		RenewDeadline: election.RenewDeadline.Duration,
		RetryPeriod:   election.RetryPeriod.Duration,
		MayStand:      func() error { return watches.Steady(settled) },
		Logger:        p.log.With("component", "leader"),
	})
}

// runPart starts one part. When it ends, everything does.
func (p *program) runPart(name string, part func(context.Context) error) {
	p.parts.running.Go(func() { p.stop(endedError(name, part(p.ctx))) })
}

// endedError returns why a part that should run for ever did not. After a signal the program
// does not use it.
func endedError(name string, err error) error {
	if err == nil {
		return fmt.Errorf("%s: ended without a cause", name)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// runElection stands for election once this replica is ready to lead.
func (p *program) runElection(ctx context.Context) error {
	select {
	case <-p.parts.provider.Warm():
		return p.parts.elector.Run(ctx)
	case <-ctx.Done():
		return nil
	}
}

// runController runs the provider's own controller from when the stock app starts its own.
func (p *program) runController(ctx context.Context) error {
	select {
	case <-p.parts.leading:
		return p.parts.provider.RunController(ctx)
	case <-ctx.Done():
		return nil
	}
}

// nodeController is how the stock app starts its own controller of nodes: only where the
// cloud-config had the key nodes when this process started. The permissions for it are
// not in the base manifests.
func nodeController(stock app.InitFuncConstructor) app.InitFuncConstructor {
	return func(init app.ControllerInitContext, cfg *appconfig.CompletedConfig, provider cloudprovider.Interface) app.InitFunc {
		if _, served := provider.InstancesV2(); served {
			return stock(init, cfg, provider)
		}
		return func(context.Context, genericcontrollermanager.ControllerContext) (controller.Interface, bool, error) {
			return nil, false, nil
		}
	}
}

// serviceController is how the stock app starts its own controller of Services: once it is
// known which Services are served, and perhaps never.
func (p *program) serviceController(init app.ControllerInitContext, cfg *appconfig.CompletedConfig, _ cloudprovider.Interface) app.InitFunc {
	return func(ctx context.Context, manager genericcontrollermanager.ControllerContext) (controller.Interface, bool, error) {
		options := cloud.ServiceControllerOptions{
			Client:      cfg.ClientBuilder.ClientOrDie(init.ClientName),
			Workers:     int(cfg.ComponentConfig.ServiceController.ConcurrentServiceSyncs),
			ClusterName: cfg.ComponentConfig.KubeCloudShared.ClusterName,
			Metrics:     manager.ControllerManagerMetrics,
		}
		go func() { // as the stock app starts it
			if err := p.parts.provider.RunServiceController(ctx, options); err != nil {
				p.stop(endedError(names.ServiceLBController, err))
			}
		}()
		return nil, true, nil
	}
}

// ownController is how the stock app starts ours.
func (p *program) ownController(app.ControllerInitContext, *appconfig.CompletedConfig, cloudprovider.Interface) app.InitFunc {
	return func(context.Context, genericcontrollermanager.ControllerContext) (controller.Interface, bool, error) {
		close(p.parts.leading)
		return nil, true, nil
	}
}
